"""Frames are pure functions of script and number; the field of view, the speed, what frames out of body hold."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.simulate.case import SPECIALTIES
from surgmotion_jax.simulate.render import build_scene, render
from tests.simulate.hand_script import hand_script, spoilt

ARRAYS = ("video_HxWx3", "albedo_HxWx3", "instrument_HxW", "lesion_HxW", "depth_HxW", "flow_HxWx2", "occluded_HxW")

DIGESTS = """
from tests.simulate.test_render import digest, noisy_script
from surgmotion_jax.simulate.render import render
print(digest(list(render(noisy_script()))))
"""


def noisy_script():
    script = hand_script(3, moving=True, nuisance=1.0, height=64, width=80, lesion=True)
    return spoilt(script, smoke=0.5, blood=0.6, fluid=0.4, smudge=0.5, brightness=0.9)


def digest(frames) -> str:
    """One digest of everything that frames hold."""
    total = hashlib.sha256()
    for frame in frames:
        for name in ARRAYS:
            array = getattr(frame, name)
            total.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def noisy_frames():
    return list(render(noisy_script()))


def test_another_process_draws_the_same_bytes(noisy_frames):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS],
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == digest(noisy_frames)


def test_a_frame_drawn_alone_is_the_frame_drawn_in_a_row(noisy_frames):
    script = noisy_script()
    scene = build_scene(script)
    for number in (2, 0, 1):
        (alone,) = render(script, number, number + 1, scene=scene)
        assert digest([alone]) == digest([noisy_frames[number]])


def test_frames_differ_from_each_other_and_from_other_seeds(noisy_frames):
    other = hand_script(3, seed=6, moving=True, height=64, width=80)
    pictures = [frame.video_HxWx3 for frame in noisy_frames] + [next(render(other, truth=False)).video_HxWx3]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_leaving_out_the_truth_changes_no_picture(noisy_frames):
    bare = list(render(noisy_script(), truth=False))
    assert all(frame.flow_HxWx2 is None and frame.occluded_HxW is None for frame in bare)
    for quick, full in zip(bare, noisy_frames, strict=True):
        np.testing.assert_array_equal(quick.video_HxWx3, full.video_HxWx3)
        np.testing.assert_array_equal(quick.depth_HxW, full.depth_HxW)


def test_the_last_frame_has_no_flow_and_all_others_have(noisy_frames):
    assert [frame.number for frame in noisy_frames] == [0, 1, 2]
    assert [frame.flow_HxWx2 is None for frame in noisy_frames] == [False, False, True]


@pytest.mark.parametrize("specialty", SPECIALTIES)
def test_outside_the_field_of_view_all_is_black_and_no_truth_is_claimed(specialty):
    script = spoilt(hand_script(2, specialty=specialty, nuisance=1.0, seed=1), smoke=1.0, fluid=1.0, smudge=1.0)
    frame = next(render(script))
    outside = ~frame.fov_HxW
    assert frame.fov_HxW.mean() > 0.6
    assert outside.any() or specialty in ("open", "microscopic")
    assert specialty != "open" or not outside.any()
    assert not frame.video_HxWx3[outside].any()
    assert not frame.instrument_HxW[outside].any()
    assert frame.occluded_HxW[outside].all()
    assert not frame.flow_HxWx2[outside].any()
    assert not frame.depth_HxW[outside].any()
    assert (frame.depth_HxW[frame.fov_HxW] > 0).all()
    assert np.isfinite(frame.depth_HxW).all()


def test_specialties_look_different():
    """The mean colours of any two lie further apart than those of two cases of one."""

    def colour(specialty, seed):
        frame = next(render(hand_script(1, specialty=specialty, seed=seed, height=64, width=64), truth=False))
        return frame.video_HxWx3[frame.fov_HxW].mean(axis=0)

    means = np.array([[colour(specialty, seed) for seed in (1, 2)] for specialty in SPECIALTIES])
    assert min(np.abs(a - b).max() for n, a in enumerate(means[:, 0]) for b in means[n + 1 :, 0]) > 8


def test_a_frame_out_of_the_body_shows_the_room_and_claims_nothing():
    script = spoilt(hand_script(2, moving=True), out_of_body=True)
    frame, inside = next(render(script)), next(render(hand_script(2, moving=True)))
    assert np.abs(frame.video_HxWx3.astype(int) - inside.video_HxWx3)[frame.fov_HxW].mean() > 20
    assert not frame.depth_HxW.any()
    assert not frame.instrument_HxW.any()
    assert not frame.albedo_HxWx3.any()
    assert frame.occluded_HxW.all()
    assert np.isnan(frame.tip_Mx2).all()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 9)])
def test_frames_that_the_script_lacks_are_refused(start, stop):
    with pytest.raises(ValueError, match=f"frames {start} to {stop} asked for; the script has frames 0 to 4"):
        render(hand_script(4), start, stop)


@pytest.mark.slow
def test_ten_frames_a_second_with_everything_on():
    script = hand_script(7, moving=True, height=256, width=256, nuisance=1.0, lesion=True)
    script = spoilt(script, smoke=0.5, blood=0.5, fluid=0.5, smudge=0.5)
    scene = build_scene(script)
    frames = render(script, scene=scene)
    next(frames)
    start = time.process_time()
    count = sum(1 for _ in frames)
    seconds = (time.process_time() - start) / count
    print(f"{seconds:.3f} CPU seconds a frame at 256 x 256, all truth and nuisances on")
    assert seconds < 0.1
