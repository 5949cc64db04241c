"""Moments in bfloat16: what random rounding promises, that training still converges, and what a checkpoint says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.pretrain.config import OptimConfig
from surgmotion_jax.pretrain.optimizer import adamw, init_moments, round_at_random
from surgmotion_jax.pretrain.state import abstract_state, create_state
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import small_config

LOW = OptimConfig(moments_dtype="bfloat16")
FULL = OptimConfig()


def test_rounding_goes_to_a_neighbour_and_is_right_on_average():
    x = jnp.asarray(np.random.default_rng(0).normal(size=50).astype(np.float32))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda k: round_at_random(x, k))(keys).astype(jnp.float32))
    low, high = drawn.min(0), drawn.max(0)
    assert (low <= x).all()
    assert (x <= high).all()
    gap = np.abs(x) * 2.0**-7
    assert (high - low <= gap).all(), "the two neighbours, no further"
    np.testing.assert_allclose(drawn.mean(0), x, atol=5 * float(gap.max()) / np.sqrt(4000))
    nearest = np.asarray(x.astype(jnp.bfloat16).astype(jnp.float32))
    assert np.abs(nearest - x).max() > 10 * np.abs(drawn.mean(0) - x).max(), "rounding to the nearest is not"


def test_representable_numbers_and_infinities_stay():
    x = jnp.array([0.0, -1.0, 384.0, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(np.asarray(round_at_random(x, jax.random.key(1)).astype(jnp.float32)), x)
    assert jnp.isnan(round_at_random(jnp.array([jnp.nan]), jax.random.key(1))).all()


def test_the_second_moment_decays_as_in_float32():
    """Without gradients v falls by a thousandth a step: less than half the distance of bfloat16 numbers."""
    params = {"kernel": jnp.ones(2000)}
    none = jax.tree.map(jnp.zeros_like, params)

    def after(config, steps=1000):
        def step(moments, _):
            return adamw(none, moments, params, jnp.zeros(()), jnp.zeros(()), config)[1], None

        begin = init_moments(config, params)
        begin = begin._replace(nu=jax.tree.map(jnp.ones_like, begin.nu))
        return jax.lax.scan(step, begin, length=steps)[0].nu["kernel"].astype(jnp.float32).mean()

    assert after(FULL) < 0.4
    np.testing.assert_allclose(after(LOW), after(FULL), rtol=0.01)
    frozen = jnp.ones((), jnp.bfloat16) * jnp.asarray(0.999, jnp.float32)
    assert frozen.astype(jnp.bfloat16) == 1, "to the nearest it would not move at all"


def fitted(config, steps=400):
    """Mean squared error of a small network on noisy batches after AdamW."""
    rng = np.random.default_rng(0)
    truth = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
    params = {
        "kernel": jnp.asarray(0.3 * rng.normal(size=(16, 32)), jnp.float32),
        "out": {"kernel": jnp.zeros((32, 4))},
    }

    def loss(params, x):
        return jnp.square(jnp.tanh(x @ params["kernel"]) @ params["out"]["kernel"] - jnp.tanh(x @ truth)).mean()

    def step(carry, key):
        params, moments = carry
        grads = jax.grad(loss)(params, jax.random.normal(key, (32, 16)))
        return adamw(grads, moments, params, jnp.asarray(3e-3), jnp.asarray(0.01), config), None

    keys = jax.random.split(jax.random.key(5), steps)
    (params, moments), _ = jax.lax.scan(step, (params, init_moments(config, params)), keys)
    held_out = jax.random.normal(jax.random.key(9), (512, 16))
    return float(loss(params, held_out)), moments


def test_training_converges_as_with_float32_moments():
    (full, wide), (low, narrow) = fitted(FULL), fitted(LOW)
    untrained = fitted(FULL, 0)[0]
    assert full < 0.5 * untrained, "the task must be learnt"
    assert low == pytest.approx(full, rel=0.03)
    assert low != full
    assert {x.dtype.name for x in jax.tree.leaves((wide.mu, wide.nu))} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves((narrow.mu, narrow.nu))} == {"bfloat16"}


def test_a_repeated_update_rounds_the_same_way():
    params = {"kernel": jnp.linspace(0.1, 1, 64)}
    args = params, init_moments(LOW, params), params, jnp.ones(()), jnp.zeros(()), LOW
    update = jax.jit(adamw, static_argnums=5)
    first, again = update(*args)[1], update(*args)[1]
    np.testing.assert_array_equal(first.mu["kernel"], again.mu["kernel"])
    later = update(params, first._replace(mu=args[1].mu, nu=args[1].nu), *args[2:])[1]
    assert (first.mu["kernel"] != later.mu["kernel"]).any(), "another update draws anew"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="optim.moments_dtype is 'float16'; it must be one of float32, bfloat16"):
        OptimConfig(moments_dtype="float16")


def test_the_state_has_the_moments_precision_whatever_the_mesh():
    config = small_config(**{"optim.moments_dtype": "bfloat16"})
    abstract = abstract_state(config, layout_of(2, 2, 2))
    assert {x.dtype.name for x in jax.tree.leaves((abstract.moments.mu, abstract.moments.nu))} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves((abstract.params, abstract.target))} == {"float32"}
    state = create_state(config, layout_of(1, 1, 1))
    assert {x.dtype.name for x in jax.tree.leaves(state.moments.mu)} == {"bfloat16"}
