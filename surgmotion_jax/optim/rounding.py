"""The state of any optimiser kept in bfloat16, rounded at random, while its updates are computed in float32."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.optim.ownership import map_owned


class RoundedState(NamedTuple):
    """The state of `in_bfloat16`."""

    done: jax.Array  # number of updates; keys the draws
    inner: optax.OptState  # with the float32 leaves of parameters in bfloat16


def in_bfloat16(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, with what it keeps for every parameter stored in bfloat16.

    Numbers are rounded up or down at random, with probabilities that make the mean exact. Rounding to the nearest would
    freeze a second moment: with a decay of 0.999 it changes by a thousandth a step, and neighbouring bfloat16 numbers
    are 1/256 to 1/128 apart. The draws are keyed by the update's number: the same on every mesh, and the same after a
    restart.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> RoundedState:
        count = jnp.zeros((), jnp.int32)
        return RoundedState(count, rounded(inner.init(params), params, count))

    def update(
        updates: optax.Updates, state: RoundedState, params: optax.Params | None = None, **extra: jax.Array
    ) -> tuple[optax.Updates, RoundedState]:
        widened = map_owned(lambda leaf, _: widen(leaf), lambda leaf: leaf, state.inner, updates)
        moved, new = inner.update(updates, widened, params, **extra)
        count = optax.safe_increment(state.done)
        return moved, RoundedState(count, rounded(new, updates, count))

    return optax.GradientTransformationExtraArgs(init, update)


def rounded(state: optax.OptState, params: optax.Params, count: jax.Array) -> optax.OptState:
    """The state as it is stored: float32 leaves that belong to parameters are rounded, each with draws of its own."""
    key = jax.random.fold_in(jax.random.key(0), count)
    numbers = itertools.count()

    def narrow(leaf: jax.Array, parameter: jax.Array) -> jax.Array:
        draws = jax.random.fold_in(key, next(numbers))
        return round_at_random(leaf, draws) if leaf.dtype == jnp.float32 else leaf

    return map_owned(narrow, lambda leaf: leaf, state, params)


def widen(leaf: jax.Array) -> jax.Array:
    """A stored leaf as the update computes with it."""
    return leaf.astype(jnp.float32) if leaf.dtype == jnp.bfloat16 else leaf


def round_at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """Float32 to one of the two neighbouring bfloat16 numbers, with the exact value as the mean. Infinities stay."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # bfloat16 is the upper half of float32: a carry out of the lower half happens just as often as it should.
    draw = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    upper = (bits + draw) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(upper, jnp.float32).astype(jnp.bfloat16)
