"""Heads by name: all of them are functions of parameters and features, and run under vmap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.evaluate.heads.networks import HEADS, LinearConfig, linear, make_head, pooled
from surgmotion_jax.models.dense_head import DenseHeadConfig
from surgmotion_jax.models.patch_head import PatchHeadConfig
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.models.temporal import TemporalConfig

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(2, 5, 8)).astype(np.float32)
GRID = RNG.normal(size=(1, 2, 1, 2, 3, 8)).astype(np.float32)
CASES = {
    "attentive": (ProbeConfig(8, 3, depth=1, heads=2, complete_block=False), TOKENS, (2, 3)),
    "linear": (LinearConfig(8, 3), TOKENS, (2, 3)),
    "dense": (DenseHeadConfig(8, (4, 6), projection=4, channels=(4,), groups=2), GRID, (2, 4, 6)),
    "patch_linear": (PatchHeadConfig(8, (4, 6), cells=2), GRID, (2, 4, 6)),
    "temporal": (TemporalConfig(8, 3, hidden=4, depth=1), TOKENS, (2, 5, 3)),
}


def test_every_head_has_a_case_here():
    assert set(CASES) == set(HEADS)


@pytest.mark.parametrize("name", CASES)
def test_heads_by_name_run_and_vmap(name):
    config, features, shape = CASES[name]
    head = make_head(name, config)
    assert features.shape[head.batch_axis] == 2
    shapes = jax.eval_shape(head.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=(2, *x.shape)) / 3, jnp.float32), shapes)
    many = jax.jit(jax.vmap(head.apply, in_axes=(0, None, None)))(params, features, None)
    assert many.shape == (2, *shape)
    single = jax.jit(head.apply)(jax.tree.map(lambda x: x[1], params), features, None)
    np.testing.assert_allclose(many[1], single, rtol=0, atol=1e-5)
    assert np.abs(many[0] - many[1]).max() > 1e-2


def test_the_linear_probe_reads_the_mean_of_valid_tokens():
    config, valid = LinearConfig(8, 3), np.array([[True, True, False, False, False], [False] * 5])
    params = {"kernel": RNG.normal(size=(8, 3)).astype(np.float32), "bias": np.ones(3, np.float32)}
    out = linear(config, params, jnp.asarray(TOKENS), jnp.asarray(valid))
    np.testing.assert_allclose(out[0], TOKENS[0, :2].mean(0) @ params["kernel"] + 1, rtol=1e-5)
    np.testing.assert_array_equal(out[1], 1)
    np.testing.assert_allclose(pooled(jnp.asarray(TOKENS, jnp.bfloat16)), TOKENS.mean(1), atol=0.02)
    assert pooled(jnp.asarray(TOKENS, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_head("linaer", LinearConfig(8, 3)), r"head is 'linaer'.* Did you mean 'linear'"),
        (
            lambda: make_head("dense", LinearConfig(8, 3)),
            r"head 'dense' was given a LinearConfig; it takes a DenseHeadConfig",
        ),
        (lambda: LinearConfig(8, 0), r"linear.outputs is 0"),
        (
            lambda: linear(LinearConfig(9, 3), {}, jnp.asarray(TOKENS), None),
            r"tokens have shape \(2, 5, 8\); a linear probe takes \[clips, tokens, 9\]",
        ),
        (
            lambda: make_head("dense", CASES["dense"][0]).apply({}, jnp.asarray(GRID), jnp.ones((2, 6), bool)),
            r"a dense head reads every patch.* pass valid=None",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
