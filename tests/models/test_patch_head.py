"""The linear head of patches: where its numbers lie, what they depend on, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.patch_head import PatchHeadConfig, init_patch_head, laid_side_by_side, patch_head

SMALL = PatchHeadConfig(width=6, size=(12, 20), layers=2, cells=4)  # 3 x 5 patches of 4 pixels


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: init_patch_head(SMALL, jax.random.key(0)))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).normal(size=(2, 3, 2, 3, 5, 6)).astype(np.float32)


run = jax.jit(patch_head, static_argnums=0)


def test_cells_lie_row_by_row_at_the_place_of_their_patch():
    picture = np.arange(12 * 20.0).reshape(1, 12, 20)
    patches = picture.reshape(1, 3, 4, 5, 4).swapaxes(2, 3).reshape(1, 3, 5, 16)
    np.testing.assert_array_equal(laid_side_by_side(jnp.asarray(patches), 4), picture)


def test_a_pixel_is_a_linear_function_of_the_last_tokens_of_its_patch(params, tokens):
    whole = np.asarray(run(SMALL, params, tokens))
    assert (whole.shape, whole.dtype) == ((3, 12, 20), np.float32)
    last = tokens[:, 1, -1, 2, 3]  # of clip 1, of the patch in row 2 and column 3
    normed = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    cells = (normed.reshape(-1) @ params["kernel"] + params["bias"]).reshape(4, 4)
    np.testing.assert_allclose(whole[1, 8:12, 12:16], cells, rtol=1e-4, atol=1e-4)


def test_without_a_norm_the_length_of_a_token_counts(params, tokens):
    raw = replace(SMALL, normed=False)
    bias = np.asarray(params["bias"]).reshape(4, 4)
    one, two = (np.asarray(run(raw, params, factor * tokens))[1, 8:12, 12:16] - bias for factor in (1, 2))
    np.testing.assert_allclose(one, (tokens[:, 1, -1, 2, 3].reshape(-1) @ params["kernel"]).reshape(4, 4), atol=1e-4)
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4, atol=1e-4)


def test_other_patches_clips_and_earlier_steps_change_nothing(params, tokens):
    whole, other = np.asarray(run(SMALL, params, tokens)), tokens.copy()
    other[:, :, 0] += 2.0
    np.testing.assert_array_equal(run(SMALL, params, other), whole)
    other[1, 2, -1, 0, 4, 3] += 2.0
    changed = np.argwhere(np.asarray(run(SMALL, params, other)) != whole)
    assert set(map(tuple, changed)) == {(2, row, column) for row in range(4) for column in range(16, 20)}


def test_another_size_is_interpolated_and_depths_are_positive(params, tokens):
    whole = run(SMALL, params, tokens)
    resized = jax.image.resize(whole, (3, 24, 40), "bilinear")
    np.testing.assert_allclose(run(replace(SMALL, size=(24, 40)), params, tokens), resized, rtol=0, atol=1e-5)
    millimetres = run(replace(SMALL, output="depth", scale=50.0), params, tokens)
    np.testing.assert_allclose(millimetres, 50 * np.log1p(np.exp(whole)), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "mask"}, r"patch_linear.output is 'mask'; it must be one of logits, depth"),
        ({"scale": float("nan")}, r"patch_linear.scale is nan; give a typical depth"),
        ({"cells": 0}, r"patch_linear.cells is 0; it must be at least 1"),
        ({"size": (0, 4)}, r"patch_linear.size is 0; it must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize("shape", [(1, 3, 2, 3, 5, 6), (2, 3, 2, 3, 5, 7), (3, 30, 6)])
def test_other_tokens_are_refused(params, shape):
    with pytest.raises(ValueError, match=r"this linear head of patches takes \[2 layers, clips, steps, rows, columns"):
        patch_head(SMALL, params, np.ones(shape, np.float32))
