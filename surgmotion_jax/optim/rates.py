"""Learning rate and weight decay as arguments of each update, so that they may be scheduled, traced and `vmap`ped over.

`optimizer.update(grads, state, params, lr=, weight_decay=)` is optax's own way to give an update more arguments. An
optimiser that is built from these blocks starts with one of rate 1 and without decay, such as `optax.adam(1.0)`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

NO_PARAMS = "weight decay needs the parameters; give them to the optimiser's update"


def decay() -> optax.GradientTransformationExtraArgs:
    """Decoupled decay of every parameter, u - wd p (arXiv 1711.05101)."""

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        weight_decay: jax.Array,
        **others: jax.Array,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        return optax.add_decayed_weights(-weight_decay).update(updates, state, params)

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def decay_used(axis: int | None = None) -> optax.GradientTransformationExtraArgs:
    """Decoupled decay of the parameters whose update is not zero throughout, or of their rows along `axis`."""

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        weight_decay: jax.Array,
        **others: jax.Array,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        def decayed(change: jax.Array, param: jax.Array) -> jax.Array:
            used = jnp.any(change != 0, axis=axis, keepdims=True)
            return change - weight_decay * param * used

        return jax.tree.map(decayed, updates, params), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def shares(of: Callable[[optax.Params], optax.Params]) -> optax.GradientTransformation:
    """Updates times a share of their own: `of` gives a factor for each parameter, such as a lower rate by layer."""

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        return jax.tree.map(jnp.multiply, updates, of(params))

    return optax.stateless(update)


def rate() -> optax.GradientTransformationExtraArgs:
    """Updates times the learning rate; the last of a chain."""

    def update(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        lr: jax.Array,
        **others: jax.Array,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        return jax.tree.map(lambda change: lr * change, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def step(
    optimizer: optax.GradientTransformationExtraArgs,
    grads: optax.Updates,
    state: optax.OptState,
    params: optax.Params,
    lr: jax.Array,
    weight_decay: jax.Array,
) -> tuple[optax.Params, optax.OptState]:
    """One update: (parameters, state of the optimiser) after it."""
    updates, state = optimizer.update(grads, state, params, lr=lr, weight_decay=weight_decay)
    return optax.apply_updates(params, updates), state
