"""Motion against the camera: each part against what is known exactly, the score against nuisances and bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.sample.block_match import blocks, match, tent
from surgmotion_jax.pretrain.sample.camera_motion import camera_field, fit_camera, warp
from surgmotion_jax.pretrain.sample.flow import flow_score, over_time
from tests.pretrain.fixtures import small_config
from tests.pretrain.motion_scenes import auroc

PATCH, SIDE, FRAMES = 8, 64, 4
INSIDE = np.ones((1, SIDE, SIDE), bool)


def smooth(shape, seed=0, times=2):
    """A random picture without detail finer than a few pixels, deviation about 1."""
    field = np.random.default_rng(seed).normal(size=shape)
    for axis in (0, 1):
        for _ in range(times):
            field = sum(np.roll(field, s, axis) for s in (-1, 0, 1)) / 3
    return ((field - field.mean()) / field.std()).astype(np.float32)


def looked_up(picture, x, y):
    """Bilinear values of a picture at places inside it."""
    j, i = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = x - j, y - i
    top = picture[i, j] * (1 - right) + picture[i, j + 1] * right
    return top * (1 - down) + (picture[i + 1, j] * (1 - right) + picture[i + 1, j + 1] * right) * down


def scene(frames=FRAMES, pan=1.5, zoom=0.01, seed=0, step=3.0):
    """(clip [T,64,64,3] with a panning and zooming camera and a square that moves against it, share of it [8,8])."""
    world, side = 0.5 + 0.1 * smooth((160, 160), seed), SIDE
    own = 0.5 + 0.25 * smooth((12, 12), seed + 1, 1)
    rows, columns = np.mgrid[:side, :side].astype(float)
    video, share = np.zeros((frames, side, side, 3)), np.zeros((side, side))
    for t in range(frames):
        scale = 1 + zoom * t
        video[t] = looked_up(world, 40 + pan * t + columns * scale, 40 - pan * t + rows * scale)[..., None]
        top, left = 30, round(14 + step * t)
        video[t, top : top + 12, left : left + 12] = own[..., None]
        share[top : top + 12, left : left + 12] += 1 / frames
    return np.clip(video, 0, 1).astype(np.float32), share.reshape(8, 8, 8, 8).mean((1, 3)).reshape(-1)


jit_match = jax.jit(match, static_argnums=2)


@jax.jit
def columns(video, inside):
    return flow_score(video, inside, PATCH, 2, "column")


def score(video, inside=INSIDE):
    return np.asarray(columns(jnp.asarray(video[None]), jnp.asarray(inside)))[0]


def test_best_shift_equals_a_search_block_by_block():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 1, 12, 12)).astype(np.float32)
    padded = np.pad(second[0], 2)
    cost = np.zeros((5, 5, 6, 6))
    for down in range(5):
        for right in range(5):
            away = np.abs(first[0] - padded[down : down + 12, right : right + 12])
            fine = np.pad(away.reshape(6, 2, 6, 2).mean((1, 3)), 1, mode="edge")
            tall = 0.25 * fine[:-2] + 0.5 * fine[1:-1] + 0.25 * fine[2:]
            cost[down, right] = 0.25 * tall[:, :-2] + 0.5 * tall[:, 1:-1] + 0.25 * tall[:, 2:]
            cost[down, right] += 0.01 * np.hypot(down - 2, right - 2)
    best = cost.reshape(25, -1).argmin(0)
    found = np.asarray(jit_match(first, second, 2).shift_Fxmxnx2)[0]
    assert np.abs(found[..., 0].reshape(-1) - (best % 5 - 2)).max() <= 0.5
    assert np.abs(found[..., 1].reshape(-1) - (best // 5 - 2)).max() <= 0.5


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 3), (1.5, 0.5)])
def test_a_shifted_picture_is_found_where_it_went(shift):
    picture = smooth((48, 48))
    rows, columns_ = np.mgrid[8:40, 8:40].astype(float)
    first, second = looked_up(picture, columns_, rows), looked_up(picture, columns_ - shift[0], rows - shift[1])
    found = np.asarray(jit_match(first[None], second[None], 4).shift_Fxmxnx2)[0, 3:-3, 3:-3]
    assert np.abs(np.median(found, axis=(0, 1)) - shift).max() < 0.15
    assert np.abs(found - shift).max() < 0.8


def test_a_flat_picture_does_not_move_and_is_not_firm():
    found = jit_match(jnp.zeros((1, 32, 32)), jnp.zeros((1, 32, 32)), 4)
    np.testing.assert_array_equal(found.shift_Fxmxnx2, 0)
    np.testing.assert_array_equal(found.firm_Fxmxnx2, 0)


def test_blocks_keep_the_mean_of_a_constant():
    np.testing.assert_allclose(blocks(jnp.full((2, 8, 8), 3.0)), 3.0, rtol=1e-6)
    np.testing.assert_allclose(tent(jnp.full((8, 8), 3.0)), 3.0, rtol=1e-6)


def test_the_camera_is_fitted_although_a_third_of_the_picture_moves_otherwise():
    rng = np.random.default_rng(0)
    camera = rng.normal(0, 1, (4, 2, 3)).astype(np.float32) * np.array([1.5, 0.5, 0.5], np.float32)
    shift = np.array(camera_field(camera, 14, 14)) + rng.normal(0, 0.1, (4, 14, 14, 2))
    shift[:, 4:12, :8] += [4.0, -3.0]
    plain = np.linalg.lstsq(np.ones((196, 1)), shift[0, ..., 0].reshape(-1), rcond=None)[0]
    assert abs(plain[0] - camera[0, 0, 0]) > 0.5, "the part that moves otherwise must matter to a plain mean"
    fitted = fit_camera(shift, np.ones_like(shift), (4.0, 2.0, 2.0, 1.0, 1.0))
    np.testing.assert_allclose(fitted, camera, atol=0.1)


def test_the_camera_rests_where_nothing_is_matched():
    shift = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(fit_camera(shift, np.zeros_like(shift), (2.0, 1.0)), 0)


def test_warping_reads_the_frame_where_the_camera_says():
    picture = smooth((40, 40), times=3)
    np.testing.assert_allclose(warp(picture[None], jnp.zeros((1, 2, 3)))[0], picture, atol=1e-6)
    camera = np.array([[[1.3, 0.8, -0.6], [-2.1, 0.5, 1.1]]], np.float32)
    right, down = np.moveaxis(np.asarray(camera_field(camera, 40, 40))[0], -1, 0)
    rows, columns_ = np.mgrid[:40, :40]
    wanted = looked_up(picture, np.clip(columns_ + right, 0, 38.9), np.clip(rows + down, 0, 38.9))
    got = np.asarray(warp(picture[None], camera))[0]
    middle = (slice(6, -6), slice(6, -6))
    assert np.abs(picture - wanted)[middle].mean() > 0.3, "the warp must matter"
    assert np.abs(got - wanted)[middle].mean() < 0.03, "two passes may differ from one by interpolation alone"


@pytest.mark.parametrize("seed", range(3))
def test_what_moves_against_a_panning_and_zooming_camera_scores(seed):
    video, share = scene(seed=seed)
    found = score(video)
    assert auroc(found[(share > 0.3) | (share == 0)], share[(share > 0.3) | (share == 0)] > 0) > 0.9
    still, _ = scene(seed=seed, step=0.0, pan=0.0, zoom=0.0)
    assert score(still).max() < 0.1 * found.max()


def test_light_that_changes_changes_little():
    video, _ = scene()
    gain = np.array([1.0, 0.8, 1.1, 0.9], np.float32)[:, None, None, None]
    plain, lit = score(video), score(video * gain)
    assert np.abs(video * gain - video).mean() > 0.05
    assert np.corrcoef(plain, lit)[0, 1] > 0.97


def test_a_glint_that_comes_and_goes_scores_nothing():
    """The same spot in grey, as bright as tissue can be, does score."""
    video, _ = scene(step=0.0, pan=0.0, zoom=0.0)
    spot = np.zeros((SIDE, SIDE, 1), bool)
    spot[40:48, 40:48] = True
    lit = np.arange(FRAMES)[:, None, None, None] % 2 == 1
    glint, grey = (np.where(spot & lit, np.float32(level), video) for level in (1.0, 0.75))
    assert score(glint).reshape(8, 8)[5, 5] < 0.2 * score(grey).reshape(8, 8)[5, 5]


def test_nothing_outside_the_field_of_view_scores():
    video, _ = scene()
    inside = INSIDE.copy()
    inside[:, :, 32:] = False
    found = score(video, inside).reshape(8, 8)
    np.testing.assert_array_equal(found[:, 5:], 0)
    assert found[:, :4].max() > 0
    noise = np.random.default_rng(0).random(video.shape, np.float32)
    other = score(np.where(inside[0][None, ..., None], video, noise), inside).reshape(8, 8)
    np.testing.assert_allclose(other, found, atol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "black", "white", "nothing inside", "noise"])
def test_clips_without_a_picture_score_finitely(kind):
    video = np.full((FRAMES, SIDE, SIDE, 3), {"black": 0.0, "white": 1.0}.get(kind, 0.4), np.float32)
    inside = INSIDE
    if kind in ("nothing inside", "noise"):
        video = np.random.default_rng(0).random(video.shape, np.float32)
    if kind == "nothing inside":
        inside = ~INSIDE
    found = score(video, inside)
    assert np.isfinite(found).all()
    if kind != "noise":
        np.testing.assert_allclose(found, 0, atol=1e-5)


def test_one_frame_scores_nothing():
    video, _ = scene(frames=1)
    np.testing.assert_array_equal(flow_score(video[None], INSIDE, PATCH, 1, "column"), np.zeros((1, 64)))


def test_two_frames_are_enough_and_a_clip_does_not_see_its_neighbours():
    clips = np.stack([scene(frames=2, seed=seed)[0] for seed in (0, 1)])
    run = jax.jit(lambda v: flow_score(v, jnp.asarray(INSIDE.repeat(2, 0)), PATCH, 2, "tubelet"))
    forth, back = np.asarray(run(clips)), np.asarray(run(clips[::-1]))
    assert forth.shape == (2, 64)
    assert forth.max() > 0
    assert np.abs(forth[0] - forth[1]).max() > 0.1
    np.testing.assert_allclose(forth, back[::-1], atol=1e-5)


def test_a_column_is_the_mean_of_its_pairs_and_a_tubelet_of_those_that_start_in_it():
    pairs = np.random.default_rng(0).random((2, 5, 3, 2), np.float32)
    np.testing.assert_allclose(over_time(pairs, 2, "column"), pairs.mean(1).reshape(2, -1), rtol=1e-6)
    starts = [pairs[:, 0:2], pairs[:, 2:4], pairs[:, 4:5]]
    wanted = np.stack([part.mean(1).reshape(2, -1) for part in starts], axis=1).reshape(2, -1)
    np.testing.assert_allclose(over_time(pairs, 2, "tubelet"), wanted, rtol=1e-6)


def test_no_operation_gathers():
    lowered = columns.lower(jnp.zeros((1, FRAMES, SIDE, SIDE, 3)), jnp.asarray(INSIDE)).as_text()
    assert "dynamic_slice" in lowered, "names of operations must show up, or the search finds nothing"
    assert "gather" not in lowered
    assert "custom_call" not in lowered


def test_kinds_and_patches_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"saliency.kind is 'optical'.*flow"):
        small_config(**{"saliency.kind": "optical"})
    with pytest.raises(ValueError, match=r"model.patch is 6; use a multiple of 4 or --config.saliency.kind=paper"):
        small_config(**{"saliency.kind": "flow", "model.patch": 6})
