"""Rotary positions inside a kernel: pairs of neighbouring lanes are swapped by two rolls of a whole register.

Outside, a roll along a head's 64 lanes is a slice and a concatenation of arrays that are each padded to 128 lanes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from surgmotion_jax.models.kernels.tiles import LANES, Rows
from surgmotion_jax.models.positions import Rotary


class LaneCode(NamedTuple):
    """Coefficients of `x -> x * own + swap(x) * other` for a group of heads, each float32 [B,N,128]."""

    own: jax.Array | jax.Ref
    other: jax.Array | jax.Ref


def lane_code(code: Rotary, head_dim: int) -> LaneCode:
    """`code` for each head of a group. In both conventions an even entry takes the next one, an odd one the last."""
    copies = (1, 1, LANES // head_dim)
    own, other = code.cos[:, :, 0], (code.take_next + code.take_previous)[:, :, 0]
    return LaneCode(jnp.tile(own, copies), jnp.tile(other, copies))


def swap(x: jax.Array) -> jax.Array:
    """Exchanges lanes 2i and 2i + 1."""
    lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.where(lane % 2 == 0, pltpu.roll(x, LANES - 1, 1), pltpu.roll(x, 1, 1))


def rotate(x: jax.Array, code: LaneCode | None, at: Rows) -> jax.Array:
    """Rows `at` of a group's queries or keys, float32 [rows,128], turned by the references in `code`, if there are."""
    return x if code is None else x * code.own[0, at] + swap(x) * code.other[0, at]


def rotate_back(slope: jax.Array, code: LaneCode | None, at: Rows) -> jax.Array:
    """The derivative of `rotate`, transposed."""
    return slope if code is None else slope * code.own[0, at] + swap(slope * code.other[0, at])
