"""Moments in bfloat16: what random rounding promises, that training still converges, and what a checkpoint says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from surgmotion_jax.optim.ownership import map_owned
from surgmotion_jax.optim.rates import step as update
from surgmotion_jax.optim.rounding import round_at_random
from surgmotion_jax.pretrain.config import OptimConfig
from surgmotion_jax.pretrain.optimizer import make_optimizer
from surgmotion_jax.pretrain.state import abstract_state, create_state, kept_for_parameters
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import small_config

LOW = OptimConfig(moments_dtype="bfloat16")
FULL = OptimConfig()


def second_moments(state):
    return optax.tree.get(state, "nu")


def owned(state, params):
    return map_owned(lambda leaf, _: leaf, lambda _: None, state, params)


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
        optimizer = make_optimizer(config)

        def step(state, _):
            return update(optimizer, none, state, params, jnp.zeros(()), jnp.zeros(()))[1], None

        begin = optimizer.init(params)
        begin = optax.tree.set(begin, nu=jax.tree.map(jnp.ones_like, second_moments(begin)))
        return second_moments(jax.lax.scan(step, begin, length=steps)[0])["kernel"].astype(jnp.float32).mean()

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

    optimizer = make_optimizer(config)

    def step(carry, key):
        params, state = carry
        grads = jax.grad(loss)(params, jax.random.normal(key, (32, 16)))
        return update(optimizer, grads, state, params, jnp.asarray(3e-3), jnp.asarray(0.01)), None

    keys = jax.random.split(jax.random.key(5), steps)
    (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    held_out = jax.random.normal(jax.random.key(9), (512, 16))
    return float(loss(params, held_out)), owned(state, params)


def test_training_converges_as_with_float32_moments():
    (full, wide), (low, narrow) = fitted(FULL), fitted(LOW)
    untrained = fitted(FULL, 0)[0]
    assert full < 0.5 * untrained, "the task must be learnt"
    assert low == pytest.approx(full, rel=0.03)
    assert low != full
    assert {x.dtype.name for x in jax.tree.leaves(wide)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(narrow)} == {"bfloat16"}


def test_a_repeated_update_rounds_the_same_way():
    params = {"kernel": jnp.linspace(0.1, 1, 64)}
    optimizer = make_optimizer(LOW)
    jitted = jax.jit(lambda state: update(optimizer, params, state, params, jnp.ones(()), jnp.zeros(()))[1])
    fresh = optimizer.init(params)
    first, again = jitted(fresh), jitted(fresh)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    emptied = map_owned(lambda leaf, _: jnp.zeros_like(leaf), lambda leaf: leaf, first, params)
    later = jitted(emptied)
    firsts, laters = (optax.tree.get(state, "mu")["kernel"] for state in (first, later))
    assert (firsts != laters).any(), "another update draws anew"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="optim.moments_dtype is 'float16'; it must be one of float32, bfloat16"):
        OptimConfig(moments_dtype="float16")


def test_the_state_has_the_moments_precision_whatever_the_mesh():
    config = small_config(**{"optim.moments_dtype": "bfloat16"})
    abstract = abstract_state(config, layout_of(2, 2, 2))
    assert {x.dtype.name for x in jax.tree.leaves(kept_for_parameters(abstract))} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves((abstract.params, abstract.target))} == {"float32"}
    state = create_state(config, layout_of(1, 1, 1))
    assert {x.dtype.name for x in jax.tree.leaves(kept_for_parameters(state))} == {"bfloat16"}
