"""What each rematerialisation policy keeps, to the byte, and that none of them changes the gradient."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.attention import attend, resolve_attention, splash_kernel
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import REMAT_POLICIES, ModelConfig, PredictorSettings
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.transformer import REMAT

SMALL = ModelConfig(
    variant="vit_nano", depth=2, patch=8, dtype="float32", remat="none", predictor=PredictorSettings(48, 1, 3)
)
TOKENS = 2 * 3 * 4
PER_WIDTH = 2 * 2 * TOKENS * 192  # blocks x clips x tokens x C


@pytest.fixture(scope="module")
def params():
    return backbone_of(SMALL).init(jax.random.key(0))


@pytest.fixture(scope="module")
def video():
    return jax.random.normal(jax.random.key(1), (2, 4, 24, 32, 3))


def loss_of(remat, attention="xla"):
    config = dataclasses.replace(SMALL, remat=remat, attention=attention)

    def loss(params, video):
        tokens = backbone_of(config).encode(params, video).tokens
        return (tokens * jax.random.normal(jax.random.key(3), tokens.shape)).sum()

    return loss


def residuals(remat, params, video, attention="xla"):
    """Values that the backward pass of the whole encoder is given, parameters that it needs among them."""
    backward = jax.eval_shape(lambda p: jax.vjp(loss_of(remat, attention), p, video)[1], params)
    return sum(math.prod(x.shape) for x in jax.tree.leaves(backward))


def test_every_policy_of_the_config_exists():
    assert tuple(REMAT) == REMAT_POLICIES


def test_each_policy_keeps_what_its_name_says(params, video):
    kept = {name: residuals(name, params, video) for name in REMAT_POLICIES}
    assert kept["attention"] - kept["full"] == PER_WIDTH, "attention's output: C values a token and block"
    biases = 2 * 192 * (3 + 1 + 4)  # are added before what is kept, and not again
    more = kept["projections"] + biases - kept["attention"]
    assert more == PER_WIDTH * (3 + 1 + 4), "queries, keys, values, the middle sum, 4 C hidden units"
    logits = 2 * 2 * 3 * TOKENS**2  # blocks x clips x heads x N^2
    products = PER_WIDTH * (3 + 1 + 1 + 4)  # qkv, attention's, its projection's and the hidden units
    assert kept["dots"] - kept["full"] == products + logits
    assert kept["none"] > kept["dots"] + PER_WIDTH


def test_splash_keeps_its_log_sum_exp_too(params, video):
    kept = {name: residuals(name, params, video, "splash") for name in ("full", "attention", "dots")}
    padded = 128
    assert kept["attention"] - kept["full"] == 2 * 2 * padded * (192 + 3), "output and log-sum-exp of whole blocks"
    assert kept["dots"] - kept["full"] == PER_WIDTH * (3 + 1 + 4), "the kernel is no dot: it would run again"


def test_splash_with_a_named_output_is_still_attention():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 40, 1, 64))

    def total(q, run):
        return jnp.sin(run(q, k, v)).sum()

    def splash(q, k, v):
        kernel = partial(splash_kernel, interpret=True)
        return jax.checkpoint(kernel, policy=REMAT["attention"])(q, k, v)

    def plain(q, k, v):
        return attend(q, k, v, implementation="xla", layout=SINGLE_DEVICE)

    np.testing.assert_allclose(jax.grad(total)(q, splash), jax.grad(total)(q, plain), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def plain_gradient(params, video):
    return wide_gradient("none", params, video)


def wide_gradient(remat, params, video):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (params, video))
        return jax.jit(jax.grad(loss_of(remat)))(*wide)


@pytest.mark.slow
@pytest.mark.parametrize("remat", REMAT_POLICIES[1:])
def test_gradients_are_those_without_rematerialisation(params, video, remat, plain_gradient):
    again = wide_gradient(remat, params, video)
    errors = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(a), plain_gradient, again)
    assert max(jax.tree.leaves(errors)) < 1e-6, errors


@pytest.mark.parametrize(
    ("platform", "dtype", "chosen"),
    [
        ("tpu", "bfloat16", "fused"),
        ("tpu", "float32", "fused"),
        ("gpu", "bfloat16", "cudnn"),
        ("gpu", "float32", "xla"),
        ("cpu", "bfloat16", "xla"),
    ],
)
def test_auto_attention(platform, dtype, chosen):
    model = dataclasses.replace(SMALL, attention="auto", dtype=dtype)
    assert resolve_attention(model, platform) == dataclasses.replace(model, attention=chosen)
    named = dataclasses.replace(model, attention="xla")
    assert resolve_attention(named, platform) is named


def test_auto_attention_in_the_model_is_what_suits_the_platform_of_its_layout(params, video):
    auto, named = (jax.jit(loss_of("none", attention)).lower(params, video).as_text() for attention in ("auto", "xla"))
    assert auto == named
    q = jnp.zeros((1, 2, 1, 8))
    with pytest.raises(ValueError, match="'auto' must be resolved for a platform first"):
        attend(q, q, q, implementation="auto", layout=SINGLE_DEVICE)
