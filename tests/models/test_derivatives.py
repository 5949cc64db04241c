"""Derivatives written out equal those of the plain formulas, in float64; each keeps what its module says."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.derivatives import gelu, layer_norm, softmax_attention

EPS = 1e-6
SHAPE = (2, 5, 3, 8)  # clips, tokens, heads, head dimension


def plain_norm(x, scale, bias):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(jnp.square(x - mean).mean(-1, keepdims=True) + EPS) * scale + bias


def plain_gelu(x):
    return jax.nn.gelu(x, approximate=False)


def plain_attention(q, k, v):
    weights = jnp.exp(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return jnp.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)


def draw(*shapes, dtype=np.float64):
    rng = np.random.default_rng(0)
    return tuple(rng.normal(0.3, 1.5, shape).astype(dtype) for shape in shapes)


CASES = {
    "layer_norm": (lambda x, s, b: layer_norm(x, s, b, EPS), plain_norm, ((4, 7, 12), (12,), (12,))),
    "gelu": (gelu, plain_gelu, ((4, 7, 12),)),
    "attention": (softmax_attention, plain_attention, (SHAPE, SHAPE, SHAPE)),
    "attention of fewer queries": (softmax_attention, plain_attention, ((2, 3, 3, 8), SHAPE, SHAPE)),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_every_gradient_equal_the_plain_formula(case):
    ours, plain, shapes = CASES[case]
    with jax.enable_x64(True):
        inputs = draw(*shapes)
        slope = np.random.default_rng(1).normal(size=np.shape(plain(*inputs)))
        value, pull = jax.vjp(ours, *inputs)
        want, plain_pull = jax.vjp(plain, *inputs)
        np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-12)
        for got, expected in zip(pull(slope), plain_pull(slope), strict=True):
            assert np.abs(expected).max() > 1e-3
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_have_the_dtype_of_their_inputs(case):
    ours, _, shapes = CASES[case]
    inputs = [jnp.asarray(x, jnp.bfloat16 if len(x.shape) > 1 else jnp.float32) for x in draw(*shapes)]
    value, pull = jax.vjp(ours, *inputs)
    assert value.dtype == (jnp.float32 if case == "layer_norm" else jnp.bfloat16)
    assert [g.dtype for g in pull(value)] == [x.dtype for x in inputs]


def test_gelu_in_bfloat16_is_float32s_rounded_once():
    x = jnp.linspace(-4, 4, 101).astype(jnp.bfloat16)
    want = plain_gelu(x.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_allclose(gelu(x).astype(np.float32), want.astype(np.float32), rtol=2**-8, atol=1e-6)


def test_far_from_zero_nothing_overflows():
    x = jnp.array([-1e30, -100.0, 100.0, 1e30])
    value, pull = jax.vjp(gelu, x)
    np.testing.assert_array_equal(value[1:], x[1:] * (x[1:] > 0))
    np.testing.assert_array_equal(pull(jnp.ones(4))[0], [0, 0, 1, 1])
    logits = jnp.full((1, 2, 1, 1), 1e4)
    np.testing.assert_array_equal(softmax_attention(logits, logits, jnp.ones_like(logits)), jnp.ones_like(logits))


def kept(function, *inputs) -> int:
    """Values that the backward pass is given besides the inputs."""
    pull = jax.eval_shape(lambda *xs: jax.vjp(function, *xs)[1], *inputs)
    shapes = [leaf.shape for leaf in jax.tree.leaves(pull)]
    for x in inputs:
        if x.shape in shapes:
            shapes.remove(x.shape)
    return sum(math.prod(shape) for shape in shapes)


def test_each_keeps_little():
    x, scale, bias = draw(*CASES["layer_norm"][2], dtype=np.float32)
    rows = x.size // 12
    # A normalised input in the place of the input, one divisor a row.
    assert kept(lambda *a: layer_norm(*a, EPS), x, scale, bias) == rows
    assert kept(gelu, x) == 0
    (q, k, v), weights = draw(SHAPE, SHAPE, SHAPE, dtype=np.float32), 2 * 3 * 5 * 5
    assert kept(softmax_attention, q, k, v) == weights
    assert kept(plain_gelu, x) > x.size, "automatic differentiation keeps more, or this shows nothing"
    assert kept(plain_attention, q, k, v) > weights
