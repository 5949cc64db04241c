"""The motion score against its formula, the field of view against known shapes, and both on a synthetic clip."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.sample import saliency
from surgmotion_jax.pretrain.sample.fov import field_of_view, patches_inside
from surgmotion_jax.pretrain.sample.saliency import motion_score, top_tubes
from tests.pretrain.motion_scenes import auroc

PATCH, SIDE = 8, 64
GRID = SIDE // PATCH


def literal_score(video, unit, inside, tubelet=2):
    """g of every tube, loop by loop, in float64."""
    frames = len(video)
    spans = [(0, frames)] if unit == "column" else [(i, i + tubelet) for i in range(0, frames, tubelet)]
    score = np.zeros((len(spans), GRID, GRID))

    def block(t, row, column):
        return video[t, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]

    for s, (first, last) in enumerate(spans):
        for row in range(GRID):
            for column in range(GRID):
                change = [
                    np.abs(block(t + 1, row, column) - block(t, row, column)).mean() for t in range(first, last - 1)
                ]
                around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
                around = [(r, c) for r, c in around if 0 <= r < GRID and 0 <= c < GRID and inside[r, c]]
                contrast = [
                    np.mean([np.abs(block(t, row, column) - block(t, r, c)).mean() for r, c in around] or [0.0])
                    for t in range(first, last)
                ]
                score[s, row, column] = np.mean(change) + np.mean(contrast)
    return score.reshape(-1)


@pytest.mark.parametrize("unit", ["column", "tubelet"])
@pytest.mark.parametrize("partial", [False, True])
def test_score_is_the_formula(unit, partial):
    rng = np.random.default_rng(0)
    video = rng.uniform(size=(2, 4, SIDE, SIDE, 3))
    inside = np.ones((2, GRID, GRID), bool)
    if partial:
        inside[:, :3, :3] = False
        inside[0, 5] = False
    with jax.enable_x64(True):
        got = motion_score(jnp.asarray(video), PATCH, 2, unit, jnp.asarray(inside))
    for b in range(2):
        np.testing.assert_allclose(got[b], literal_score(video[b], unit, inside[b]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch", [4, 16])
def test_both_ways_to_pool_give_means(patch):
    x = jax.random.uniform(jax.random.key(0), (2, 3, 3 * patch, 5 * patch))
    by_mean, by_product = saliency._pool_by_mean(x, patch), saliency._pool_by_product(x, patch)
    assert by_mean.shape == (2, 3, 3, 5)
    np.testing.assert_allclose(by_product, by_mean, rtol=1e-6)
    np.testing.assert_array_equal(saliency.pool(x, patch), by_mean)


def scene(frames=8, side=128, pan=3, seed=0):
    """A panning textured background, one disc that moves against it, under a round field of view."""
    rng = np.random.default_rng(seed)
    texture = rng.uniform(0.35, 0.65, (side // 8 + 12, side // 8 + 12)).repeat(8, 0).repeat(8, 1)
    for axis in (0, 1):
        texture = sum(np.roll(texture, s, axis) for s in range(-4, 5)) / 9
    rows, columns = np.mgrid[:side, :side]
    inside = np.hypot(rows - side / 2, columns - side / 2) < 0.47 * side
    video, truth = np.zeros((frames, side, side, 3)), np.zeros((side, side))
    for t in range(frames):
        frame = texture[pan * t // 2 : pan * t // 2 + side, pan * t : pan * t + side]
        disc = np.hypot(rows - 0.4 * side - 3 * t, columns - 0.6 * side + 5 * t) < 0.11 * side
        frame = np.where(disc, 0.85, frame)
        truth += disc
        video[t] = np.where(inside, frame, 0.0)[..., None] + rng.normal(0, 0.01, (side, side, 1))
    return np.clip(video, 0, 1).astype(np.float32), inside, truth / frames


def test_score_finds_the_moving_object_on_a_synthetic_clip(capsys):
    found = []
    for seed in range(5):
        video, _, truth = scene(seed=seed)
        pixels = field_of_view(jnp.asarray(video[None]))
        tokens = np.asarray(patches_inside(pixels, PATCH, 3))[0]
        score = np.asarray(motion_score(jnp.asarray(video[None]), PATCH, 2, "column", jnp.asarray(tokens[None])))[0]
        columns = 128 // PATCH
        object_share = truth.reshape(columns, PATCH, columns, PATCH).mean((1, 3)).reshape(-1)
        flat = tokens.reshape(-1)
        found.append(auroc(score[flat], object_share[flat] > 0.1))
    with capsys.disabled():
        print(f"\nAUROC of the motion score for the moving object: {np.mean(found):.3f}, {min(found):.3f} at least")
    assert min(found) > 0.8


def shapes(side=96):
    rows, columns = np.mgrid[:side, :side]
    circle = np.hypot(rows - side / 2, columns - side / 2)
    return {
        "round": circle < 0.45 * side,
        "round, cut by the picture": circle < 0.6 * side,
        "pillars": (columns > 14) & (columns < 80),
        "letter box": (rows > 20) & (rows < 77),
        "off centre": np.hypot(rows - 30, columns - 70) < 40,
        "whole picture": np.ones((side, side), bool),
    }


@pytest.mark.parametrize("name", shapes())
def test_field_of_view_of_known_shapes(name):
    inside = shapes()[name]
    rng = np.random.default_rng(0)
    video = rng.uniform(0.2, 0.9, (4, 96, 96, 3)) * inside[..., None] + rng.uniform(0, 0.02, (4, 96, 96, 3))
    found = np.asarray(field_of_view(jnp.asarray(video[None], jnp.float32)))[0]
    assert (found != inside).mean() < 0.05
    tokens = np.asarray(patches_inside(jnp.asarray(found[None]), 8, 3))[0]
    whole = inside.reshape(12, 8, 12, 8).all((1, 3))
    assert not (tokens & ~whole).any(), "a patch that touches the outside must not count as inside"
    assert tokens.sum() >= 0.6 * whole.sum()


def test_dark_tissue_inside_stays_inside():
    inside = shapes()["round"]
    video = np.where(inside, 0.6, 0.0)[None, :, :, None].repeat(4, 0).repeat(3, 3)
    video[:, 40:60, 40:60] = 0.0
    found = np.asarray(field_of_view(jnp.asarray(video[None], jnp.float32)))[0]
    assert found[44:56, 44:56].all()


def test_no_tube_on_or_outside_the_edge_is_chosen():
    for seed in range(8):
        video, inside, _ = scene(seed=seed)
        tokens = patches_inside(field_of_view(jnp.asarray(video[None])), PATCH, 3)
        score = motion_score(jnp.asarray(video[None]), PATCH, 2, "column", tokens)
        whole = inside.reshape(16, PATCH, 16, PATCH).all((1, 3)).reshape(-1)
        top = np.asarray(top_tubes(score, tokens.reshape(1, -1), 3))[0]
        assert top.sum() == 3
        assert whole[top].all()
        everywhere = motion_score(jnp.asarray(video[None]), PATCH, 2, "column", None)
        naive = np.asarray(top_tubes(everywhere, jnp.ones((1, 256), bool), 3))[0]
        assert not whole[naive].all(), "without the field of view the edge must win, or this shows nothing"


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_clips_score_zero(value):
    video = jnp.full((1, 4, 64, 64, 3), value)
    tokens = patches_inside(field_of_view(video), PATCH, 3)
    assert bool(tokens.all()) == (value > 0)
    np.testing.assert_array_equal(motion_score(video, PATCH, 2, "column", tokens), 0)
