"""Every scored moment is read exactly once and in order, and its window ends with the labelled frame."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.windows_of_cases import (
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


def test_the_released_recipe_drops_the_border(cases):
    ours = WindowReader(DATA).window(cases[0], 7)
    theirs = WindowReader(DataConfig(frames=4, size=64, recipe="released")).window(cases[0], 7)
    assert ours.shape == theirs.shape
    assert (ours != theirs).any()


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
