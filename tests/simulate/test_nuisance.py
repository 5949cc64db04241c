"""Nuisances: none at rest, each visible when on, none of them in the truth."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.simulate.nuisance import draw_veil, sensor, spoil
from surgmotion_jax.simulate.render import build_scene, render
from tests.simulate.hand_script import hand_script, spoilt

VEILS = {"smoke": 0.6, "fluid": 0.6, "smudge": 0.8, "brightness": 0.7}


def picture(seed=0):
    return np.random.default_rng(seed).random((64, 64, 3), np.float32)


def test_strength_0_leaves_the_picture_alone():
    script = hand_script(2)
    veil = draw_veil(script, np.random.default_rng(0))
    clean = picture()
    np.testing.assert_array_equal(spoil(script, veil, 1, clean), clean)
    np.testing.assert_array_equal(sensor(veil, 1, clean), np.rint(clean * 255).astype(np.uint8))


def test_without_nuisance_frames_of_a_still_scene_are_equal_and_with_it_they_are_not():
    first, second = render(hand_script(2), truth=False)
    np.testing.assert_array_equal(first.video_HxWx3, second.video_HxWx3)
    first, second = render(hand_script(2, nuisance=0.5), truth=False)
    assert (first.video_HxWx3 != second.video_HxWx3).mean() > 0.3


@pytest.mark.parametrize("name", [*VEILS, "blood"])
def test_each_nuisance_shows_and_leaves_the_truth_alone(name):
    script = hand_script(2)
    scene = build_scene(script)
    clean = next(render(script, scene=scene))
    spoilt_script = spoilt(script, **{name: VEILS.get(name, 1.0)})
    dirty = next(render(spoilt_script, scene=build_scene(spoilt_script)))
    change = np.abs(dirty.video_HxWx3.astype(int) - clean.video_HxWx3).max(axis=-1)
    assert (change[clean.fov_HxW] > 8).mean() > 0.05
    for truth in ("instrument_HxW", "depth_HxW", "flow_HxWx2", "occluded_HxW", "tip_Mx2"):
        np.testing.assert_array_equal(getattr(dirty, truth), getattr(clean, truth))
    # Blood is on the tissue, so it has a surface colour; what is in the air or on the lens has none.
    assert (dirty.albedo_HxWx3 == clean.albedo_HxWx3).all() == (name != "blood")


def test_smoke_hides_more_the_more_there_is_and_drifts():
    script = hand_script(60, nuisance=1.0)
    veil = draw_veil(script, np.random.default_rng(0))
    deviations = [spoil(spoilt(script, smoke=amount), veil, 3, picture()).std() for amount in (0.2, 0.5, 0.9)]
    assert deviations[0] > deviations[1] > deviations[2]
    flat = np.zeros((64, 64, 3), np.float32)
    smoky = spoilt(script, smoke=0.6)
    first, soon, later = (spoil(smoky, veil, frame, flat) for frame in (3, 4, 40))
    assert 0 < np.abs(soon - first).mean() < np.abs(later - first).mean()


def test_sensor_noise_has_its_stated_strength_and_is_fresh_in_every_frame():
    script = hand_script(2, nuisance=1.0)
    veil = draw_veil(script, np.random.default_rng(0))
    grey = np.full((64, 64, 3), 0.5, np.float32)
    first, second = (sensor(veil, frame, grey).astype(float) for frame in (0, 1))
    assert 0.7 * veil.noise < first.std() < 0.8 * veil.noise
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


def test_glints_come_with_the_nuisances():
    """Wet tissue glints: without nuisances hardly a pixel is white."""

    def white(nuisance):
        script = hand_script(1, nuisance=nuisance, height=128, width=128)
        frame = next(render(script, truth=False))
        return (frame.video_HxWx3.min(axis=-1) > 200)[frame.instrument_HxW == 0].mean()

    assert white(1.0) > 4 * white(0.0) + 0.001
