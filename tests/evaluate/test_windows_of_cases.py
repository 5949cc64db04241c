"""Every scored moment is read exactly once and in order, and its window ends with the labelled frame."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.features.windows_of_cases import (
    Position,
    WindowReader,
    gather,
    in_order,
    prefetched,
    released_order,
    stream,
)
from surgmotion_jax.simulate.number_strip import read_number
from tests.evaluate.evaluations import cholec80

DATA = DataConfig(frames=4, size=64)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    root = cholec80(tmp_path_factory.mktemp("set") / "set")
    return catalogue.get("cholec80").read(root, "official").cases["test"]


@pytest.mark.parametrize("batch", [1, 5, 8, 100])
def test_every_moment_comes_once_and_in_order_at_any_batch_size(cases, batch):
    batches = list(stream(cases, WindowReader(DATA), batch))
    assert all(len(b.video_BxTxSxSx3) == batch for b in batches)
    assert [p for b in batches for p in b.positions] == in_order(cases)
    remainder = sum(len(case.times_N) for case in cases) % batch
    if remainder:
        assert len(batches[-1].positions) == remainder
        assert not batches[-1].video_BxTxSxSx3[remainder:].any()


def test_a_window_ends_with_the_frame_of_its_second(cases):
    for batch in stream(cases, WindowReader(DATA), 8):
        for video, position in zip(batch.video_BxTxSxSx3, batch.positions, strict=False):
            second = int(cases[position.case].times_N[position.row])
            shown = [read_number(frame) for frame in video]
            assert shown == [3 * max(0, second - back) for back in (3, 2, 1, 0)]  # three frames a second


def test_gathered_windows_are_those_of_the_stream(cases):
    reader = WindowReader(DATA)
    streamed = {p: v for b in stream(cases, reader, 8) for p, v in zip(b.positions, b.video_BxTxSxSx3, strict=False)}
    asked = [Position(2, 7), Position(0, 0), Position(1, 3)]
    found = gather(cases, reader, asked, 4)
    assert found.positions == tuple(asked)
    for position, video in zip(asked, found.video_BxTxSxSx3, strict=False):
        np.testing.assert_array_equal(video, streamed[position])


def test_the_released_order_repeats_the_current_frame_and_skips_the_last_but_one():
    frame_T = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1)
    full = released_order(frame_T, np.ones(8, bool)).reshape(-1)
    assert full.tolist() == [0, 1, 2, 3, 4, 5, 7, 7]
    valid = np.arange(8) >= 5  # three frames since the start: 5, 6, 7, and 7 again up to the end
    assert released_order(frame_T, valid).reshape(-1).tolist() == [5, 6, 7, 7, 7, 7, 7, 7]
    assert released_order(frame_T[:1], np.ones(1, bool)).shape == (1, 1, 1, 1)


@pytest.fixture
def painted(tmp_path):
    """A frame of 292 x 584 pixels, grey in steps from column to column, with the outer 18 rows and 36 columns red."""
    frame = np.zeros((292, 584, 3), np.uint8)
    frame[:] = (80 + np.arange(584) // 8)[None, :, None]
    for edge in (np.s_[:18], np.s_[-18:], np.s_[:, :36], np.s_[:, -36:]):
        frame[edge] = (255, 0, 0)
    Image.fromarray(frame).save(tmp_path / "0.png")
    return Case("painted", "painted", ImageFrames((tmp_path / "0.png",)), np.zeros(1))


def redness(video_TxSxSx3):
    return video_TxSxSx3[..., 0].astype(int) - video_TxSxSx3[..., 1]


def test_the_released_recipe_squashes_to_292_and_drops_18_on_each_side(painted):
    """One frame, so that the order of frames has no part in it."""
    ours = WindowReader(DataConfig(frames=1, size=256)).window(painted, 0)
    theirs = WindowReader(DataConfig(frames=1, size=256, recipe="released")).window(painted, 0)
    assert ours.shape == theirs.shape == (1, 256, 256, 3)
    assert redness(ours)[0, 128, [0, -1]].min() > 200  # the letterboxed frame is whole
    inside = theirs[0, 2:-2, 2:-2]  # the paint is as wide as what is cut: resizing may smear two pixels of it
    assert abs(redness(inside)).max() < 8
    wanted_S = 80 + (36 + 2 * np.arange(256)[2:-2]) / 8  # every second column of the 584, from the 37th on
    assert abs(inside[..., 1].mean(0) - wanted_S).max() < 2


@pytest.mark.parametrize("size", [64, 256])
def test_the_released_recipe_drops_no_more_than_that(painted, tmp_path, size):
    frame = np.asarray(Image.open(painted.frames.paths[0])).copy()
    frame[24:30, :] = frame[-30:-24, :] = (0, 255, 0)  # six rows that start two per cent inside what is cut
    Image.fromarray(frame).save(tmp_path / "0.png")
    theirs = WindowReader(DataConfig(frames=1, size=size, recipe="released")).window(painted, 0)[0]
    green_S = -redness(theirs)[:, size // 2] > 60
    assert green_S[: size // 16].any()
    assert green_S[-size // 16 :].any()
    assert not green_S[size // 16 : -size // 16].any()


def test_a_batch_that_nobody_wants_is_not_decoded_and_the_others_keep_their_members(cases):
    reader = WindowReader(DATA)
    every = list(stream(cases, reader, 5))
    some = list(stream(cases, reader, 5, wanted={2}))
    assert [b.positions for b in some] == [b.positions for b in every[3:]]
    for found, whole in zip(some, every[3:], strict=True):
        np.testing.assert_array_equal(found.video_BxTxSxSx3, whole.video_BxTxSxSx3)
    assert not list(stream(cases, reader, 5, wanted=()))


def test_chosen_windows_of_a_case_are_those_of_the_whole(cases):
    reader = WindowReader(DATA)
    every = list(reader.case_windows(cases[1]))
    for found, row in zip(reader.case_windows(cases[1], [0, 1, 6, 7]), (0, 1, 6, 7), strict=True):
        np.testing.assert_array_equal(found, every[row])


def test_an_error_in_the_thread_surfaces_where_its_item_was_due():
    def items():
        yield 1
        raise ValueError("the second")

    found = prefetched(items(), 2)
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second"):
        next(found)


def test_a_reader_that_stops_early_stops_the_thread():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield number

    found = prefetched(items(), 2)
    assert next(found) == 0
    found.close()
    assert len(made) < 10
