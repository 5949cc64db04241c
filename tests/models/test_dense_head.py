"""Dense heads: shapes, what they read, positive depth, their own parts."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.dense_head import (
    DenseHeadConfig,
    GroupNorm,
    dense_head,
    doubled,
    init_dense_head,
)

SMALL = DenseHeadConfig(width=6, size=(12, 20), layers=2, projection=8, channels=(8, 4), groups=2)


@pytest.fixture(scope="module")
def params():
    shapes, rng = jax.eval_shape(lambda: init_dense_head(SMALL, jax.random.key(0))), np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32), shapes)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).normal(size=(2, 3, 2, 3, 5, 6)).astype(np.float32)


run = jax.jit(dense_head, static_argnums=0)


def test_a_logit_for_every_pixel(params, tokens):
    whole = run(SMALL, params, tokens)
    assert whole.shape == (3, 12, 20)
    assert whole.dtype == jnp.float32
    other = replace(SMALL, size=(10, 31))
    resized = jax.image.resize(whole, (3, 10, 31), "bilinear")
    np.testing.assert_allclose(run(other, params, tokens), resized, rtol=0, atol=1e-5)


def test_every_layer_counts_and_of_the_steps_the_last(params, tokens):
    whole = np.asarray(run(SMALL, params, tokens))
    for layer in range(2):
        other = tokens.copy()
        other[layer, :, -1, 1, 1, 0] += 2.0
        assert np.abs(run(SMALL, params, other) - whole).max() > 1e-3
    other = tokens.copy()
    other[:, :, 0] += 2.0
    np.testing.assert_array_equal(run(SMALL, params, other), whole)


def test_clips_do_not_mix(params, tokens):
    other = tokens.copy()
    other[:, 1:] += np.random.default_rng(1).normal(size=other[:, 1:].shape)
    np.testing.assert_allclose(run(SMALL, params, other)[0], run(SMALL, params, tokens)[0], rtol=0, atol=1e-5)


def test_depth_is_positive_and_a_multiple_of_the_scale(params, tokens):
    millimetres = np.asarray(run(replace(SMALL, output="depth", scale=50.0), params, tokens))
    assert millimetres.min() > 0
    np.testing.assert_allclose(millimetres, 50 * np.log1p(np.exp(run(SMALL, params, tokens))), rtol=1e-4)


def test_doubling_repeats_pixels():
    image = np.arange(12.0).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(doubled(jnp.asarray(image)), image.repeat(2, axis=1).repeat(2, axis=2))


def test_group_norm_is_that_of_its_definition():
    x = np.random.default_rng(0).normal(2, 3, size=(2, 3, 4, 6)).astype(np.float32)
    out = GroupNorm(2, 1e-5).apply({"params": {"scale": jnp.arange(6.0), "bias": jnp.ones(6)}}, jnp.asarray(x))
    group = x[1, :, :, 3:]
    wanted = (group - group.mean()) / np.sqrt(group.var() + 1e-5) * [3, 4, 5] + 1
    np.testing.assert_allclose(out[1, :, :, 3:], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "mask"}, r"dense.output is 'mask'; it must be one of logits, depth"),
        ({"channels": (8, 3)}, r"dense.channels \(8, 3\): 3 is not divisible by dense.groups 2"),
        ({"scale": 0.0}, r"dense.scale is 0.0; give a typical depth"),
        ({"layers": 0}, r"dense.layers is 0; it must be at least 1"),
        ({"size": (0, 4)}, r"dense.size is 0; it must be at least 1"),
        ({"dtype": "int8"}, r"dense.dtype is 'int8'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)


@pytest.mark.parametrize("shape", [(1, 3, 2, 3, 5, 6), (2, 3, 2, 3, 5, 7), (3, 30, 6)])
def test_other_tokens_are_refused(params, shape):
    with pytest.raises(ValueError, match=r"this dense head takes \[2 layers, clips, steps, rows, columns, 6\]"):
        dense_head(SMALL, params, np.ones(shape, np.float32))
