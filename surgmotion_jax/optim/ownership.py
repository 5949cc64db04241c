"""Which parameter a leaf of an optimiser's state belongs to, told from names and shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import optax

Result = TypeVar("Result")


def map_owned(
    owned: Callable[[jax.Array, jax.Array], Result],
    other: Callable[[jax.Array], Result],
    state: optax.OptState,
    params: optax.Params,
) -> optax.OptState:
    """The state with `owned(leaf, parameter)` for leaves that belong to a parameter and `other(leaf)` for the rest.

    Optimisers keep trees like that of the parameters, perhaps with some parts left out, and counters beside them. So a
    leaf belongs to the parameter whose path its own path ends with, if it has the parameter's shape. All may be
    abstract.
    """
    parameters = dict(jax.tree_util.tree_leaves_with_path(params))

    def one(path: jax.tree_util.KeyPath, leaf: jax.Array) -> Result:
        for start in range(len(path) + 1):
            parameter = parameters.get(path[start:])
            if parameter is not None and parameter.shape == leaf.shape:
                return owned(leaf, parameter)
        return other(leaf)

    return jax.tree_util.tree_map_with_path(one, state)
