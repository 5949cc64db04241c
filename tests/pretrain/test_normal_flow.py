"""Normal flow finds what moves against its surroundings, and stays within [0, 1]."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.sample.normal_flow import normal_flow, normal_flow_score, smoothed, split_off_camera

PATCH, SIDE = 8, 48


def textured(shift):
    """A random texture that is smooth over a few pixels, moved to the right by `shift` pixels."""
    rng = np.random.default_rng(3)
    wave = sum(
        np.sin(2 * np.pi * (fy * np.arange(SIDE)[:, None] + fx * (np.arange(SIDE) - shift)) / SIDE + phase)
        for fy, fx, phase in rng.integers(1, 5, (6, 3))
    )
    return 0.5 + 0.06 * wave


def clip(frames):
    return jnp.asarray(np.stack(frames), jnp.float32)[None, ..., None].repeat(3, -1)


def test_speed_of_a_ramp_is_its_change_over_its_slope():
    columns = np.arange(SIDE, dtype=np.float32)
    light = np.stack([np.tile(0.2 * (columns - t), (SIDE, 1)) for t in (0, 1)])[None]
    found = np.asarray(normal_flow(jnp.asarray(light)))[0, 0]
    np.testing.assert_allclose(found[:, 1:-1], 0.2 / (0.2 + 0.05), rtol=1e-4)
    assert (np.asarray(normal_flow(jnp.asarray(0.2 * light)))[0, 0] == 0).all(), "a gradient below 0.05 tells nothing"


def test_a_moving_patch_scores_highest_and_a_still_clip_nothing():
    frames = [textured(0.0), textured(0.0)]
    frames[1][16:24, 24:32] = textured(2.0)[16:24, 24:32]  # patch row 2, column 3
    inside = jnp.ones((1, 6, 6), bool)
    score = np.asarray(normal_flow_score(clip(frames), inside, PATCH, 2, "column"))[0]
    assert score.argmax() == 2 * 6 + 3
    assert 0 <= score.min() <= score.max() <= 1
    still = normal_flow_score(clip([textured(0.0)] * 2), inside, PATCH, 2, "column")
    assert (np.asarray(still) == 0).all()
    assert normal_flow_score(clip([textured(0.0)] * 4), inside, PATCH, 2, "tubelet").shape == (1, 2 * 36)


def test_the_camera_is_split_off_and_bounded():
    speed = jnp.full((1, 1, 3, 3), 2.0).at[0, 0, 1, 1].set(2.5)
    inside = jnp.ones((1, 3, 3), bool).at[0, 0, 0].set(False)
    found = np.asarray(split_off_camera(speed, inside))[0, 0]
    assert found[1, 1] == pytest.approx(0.3 + 0.5)
    assert found[2, 2] == pytest.approx(0.3)
    assert found[0, 0] == 0
    nothing = split_off_camera(speed, jnp.zeros((1, 3, 3), bool))
    assert (np.asarray(nothing) == 0).all(), "a clip of which nothing is seen has no median, and no NaN"


def test_smoothing_keeps_what_lies_within():
    spot = jnp.zeros((1, 1, 9, 9)).at[0, 0, 4, 4].set(1.0)
    found = np.asarray(smoothed(spot))[0, 0]
    assert found.sum() == pytest.approx(1, rel=1e-5)
    assert found[4, 5] / found[4, 4] == pytest.approx(np.exp(-0.5), rel=1e-5)
