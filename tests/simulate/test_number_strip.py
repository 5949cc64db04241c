"""The painted frame number: read back, also after JPEG and H.264; never read where there is none."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.simulate.number_strip import LARGEST, paint_number, read_number
from surgmotion_jax.simulate.render import render
from tests.simulate.hand_script import hand_script, spoilt

NUMBERS = [0, 1, 2, 77, 1023, 65_535, 524_288, LARGEST]


def grain(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("shape", [(48, 48), (64, 64), (256, 256), (480, 854)])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_painted_is_read_back_and_the_rest_of_the_frame_kept(shape, number):
    frame = grain(shape)
    painted = paint_number(frame, number)
    assert read_number(painted) == number
    strip = 2 * max(4, shape[0] // 24)
    np.testing.assert_array_equal(painted[strip:], frame[strip:])


def test_a_number_survives_jpeg():
    for number in NUMBERS:
        file = io.BytesIO()
        Image.fromarray(paint_number(grain((64, 64)), number)).save(file, "JPEG", quality=30)
        assert read_number(np.asarray(Image.open(file))) == number


def test_numbers_survive_h264(tmp_path):
    frames = [paint_number(grain((64, 96), n), 3 * n + 1000) for n in range(12)]
    path = str(tmp_path / "case.mp4")
    with VideoWriter(path, fps=10.0) as video:
        for frame in frames:
            video.add(frame)
    decoded = read_frames(path, [n / 10 for n in range(12)], info=probe(path))
    assert [read_number(frame) for frame in decoded] == [3 * n + 1000 for n in range(12)]


def test_the_renderer_paints_it_over_everything_and_leaves_the_truth_alone():
    script = hand_script(3, paint_frame_number=True, nuisance=1.0)
    script = spoilt(script, smoke=1.0, fluid=1.0, smudge=1.0)
    painted = list(render(script))
    assert [read_number(frame.video_HxWx3) for frame in painted] == [0, 1, 2]
    plain = next(render(hand_script(2)))
    np.testing.assert_array_equal(painted[0].depth_HxW, plain.depth_HxW)
    np.testing.assert_array_equal(painted[0].albedo_HxWx3, plain.albedo_HxWx3)


def test_a_frame_without_a_number_is_refused():
    with pytest.raises(ValueError, match="no frame number along the top rows: blocks of grey"):
        read_number(np.full((64, 64, 3), 128, np.uint8))
    for value in (0, 255):
        with pytest.raises(ValueError, match="check bits do not match"):
            read_number(np.full((64, 64, 3), value, np.uint8))


def test_one_wrong_block_is_noticed():
    painted = paint_number(grain((96, 96)), 1234)
    painted[0:4, 0:8] = 255 - painted[0:4, 0:8]
    with pytest.raises(ValueError, match="check bits do not match"):
        read_number(painted)


@pytest.mark.parametrize("number", [-1, LARGEST + 1])
def test_numbers_that_do_not_fit_are_refused(number):
    with pytest.raises(ValueError, match=f"frame number is {number}; the strip holds 0 to {LARGEST}"):
        paint_number(grain((64, 64)), number)


def test_a_frame_too_small_is_refused():
    with pytest.raises(ValueError, match="a frame of 40 x 64 is too small for a frame number; at least 48 x 16"):
        paint_number(grain((64, 40)), 1)
