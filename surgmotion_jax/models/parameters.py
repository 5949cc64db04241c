"""Trees of parameters, and the logical axis names of their leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from surgmotion_jax.models.transformer import rescale_residual_branches

Params = dict[str, Any]
"""Nested dicts of float32 arrays, as Flax names them."""

Axes = dict[str, Any]
"""The same dicts with a tuple of logical axis names in place of each array."""


def logical_axes(boxed_init: Callable[[], Params]) -> Axes:
    """Reads the axis names off an initialiser without running it."""
    boxed = jax.eval_shape(boxed_init)
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))


def fresh(boxed: Params) -> Params:
    """Plain arrays from what Flax initialised, with V-JEPA's scale of the residual branches of its `trunk`."""
    params = nn.meta.unbox(boxed)
    trunk = params["trunk"]
    return {**params, "trunk": {**trunk, "blocks": rescale_residual_branches(trunk["blocks"])}}
