"""Position codes: 3-D rotary embedding in both V-JEPA conventions, and fixed sin-cos tables.

Letters: B batch, K tokens, H heads, D head dimension, C width.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.config import Grid, rotary_segment


class Rotary(NamedTuple):
    """Coefficients of `x -> x * cos + next(x) * take_next + previous(x) * take_previous`, each float32 [B,K,1,D]."""

    cos: jax.Array
    take_next: jax.Array
    take_previous: jax.Array


def token_coordinates(ids: jax.Array, grid: Grid) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Splits token numbers into (tubelet step, row, column). Steps beyond the grid are allowed."""
    step, rest = jnp.divmod(ids, grid.columns)
    row, column = jnp.divmod(rest, grid.width)
    return step, row, column


def scaled_coordinates(ids: jax.Array, grid: Grid, side: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`token_coordinates` with rows and columns stretched to run from 0 to side - 1 on any grid (V-JEPA 2.1).

    A grid of one row or column keeps its 0.
    """
    step, row, column = token_coordinates(ids, grid)
    return step, row * (side - 1) / max(grid.height - 1, 1), column * (side - 1) / max(grid.width - 1, 1)


def distance_to_targets(context_ids_BxK: jax.Array, target_ids_BxM: jax.Array, grid: Grid) -> jax.Array:
    """Euclidean distance in the grid from each context token to its nearest target, [B,K] float32.

    V-JEPA 2.1 weights the loss of a visible token by one over its square root.
    """
    context, target = (token_coordinates(ids, grid) for ids in (context_ids_BxK, target_ids_BxM))
    # A sum of three, not a reduction over an axis of three: compilers then hold no array of all pairs.
    squared_BxKxM = sum(jnp.square(c[:, :, None] - t[:, None]) for c, t in zip(context, target, strict=True))
    return jnp.sqrt(jnp.asarray(squared_BxKxM).min(-1).astype(jnp.float32))


def segment_angles(positions: jax.Array, width: int, interleaved: bool) -> jax.Array:
    """Angles of one rotated segment: [..., width] float32 from positions [...].

    V-JEPA 2 concatenates the half-table with itself although it rotates adjacent pairs, so the two members of a pair
    turn at different frequencies; released weights depend on it. `interleaved` is the proper form of V-JEPA 2.1.
    """
    half = width // 2
    frequency = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[..., None] * frequency
    return jnp.repeat(angle, 2, axis=-1) if interleaved else jnp.concatenate([angle, angle], axis=-1)


def rotary(ids_BxK: jax.Array, grid: Grid, head_dim: int, *, interleaved: bool, side: int = 0) -> Rotary:
    """Rotary coefficients of the tokens `ids` (V-JEPA 2, arXiv 2506.09985, section 2).

    The first three segments of a head rotate by tubelet step, row and column; what is left of it passes unchanged.
    With `side`, rows and columns are scaled to a grid of that side.
    Tables are float32 whatever the compute dtype: under bfloat16 the frequencies would be off by up to 1.75 %.
    """
    width = rotary_segment(head_dim)
    axes = scaled_coordinates(ids_BxK, grid, side) if side else token_coordinates(ids_BxK, grid)
    angle = jnp.concatenate([segment_angles(p, width, interleaved) for p in axes], axis=-1)
    sin = jnp.sin(angle)
    even = jnp.arange(3 * width) % 2 == 0
    rest = [(0, 0)] * (angle.ndim - 1) + [(0, head_dim - 3 * width)]
    cos = jnp.pad(jnp.cos(angle), rest, constant_values=1.0)
    take_next = jnp.pad(jnp.where(even, -sin, 0.0), rest)
    take_previous = jnp.pad(jnp.where(even, 0.0, sin), rest)
    return Rotary(cos[..., None, :], take_next[..., None, :], take_previous[..., None, :])


def position_code(positions: str, ids_BxK: jax.Array, grid: Grid, head_dim: int, side: int = 0) -> Rotary | None:
    """Rotary coefficients, or None where positions are added instead. `side` scales rows and columns, see `rotary`."""
    if not positions.startswith("rope"):
        return None
    return rotary(ids_BxK, grid, head_dim, interleaved=positions == "rope", side=side)


def position_rows(positions: str, ids_BxK: jax.Array, grid: Grid, width: int) -> jax.Array | None:
    """Rows of the fixed sin-cos table for the tokens `ids`, or None under rotary positions."""
    if positions.startswith("rope"):
        return None
    return jnp.asarray(sincos_table(grid, width, uniform=positions == "sincos_uniform"))[ids_BxK]


def apply_rotary(x_BxKxHxD: jax.Array, code: Rotary) -> jax.Array:
    """Rotates adjacent pairs; rolls instead of a [D/2, 2] reshape keep the last axis whole for vector units."""
    x = x_BxKxHxD.astype(jnp.float32)
    turned = x * code.cos + jnp.roll(x, -1, -1) * code.take_next + jnp.roll(x, 1, -1) * code.take_previous
    return turned.astype(x_BxKxHxD.dtype)


def _axis_code(positions_N: np.ndarray, width: int) -> np.ndarray:
    frequency = 10000.0 ** (-np.arange(width // 2) / (width / 2))
    angle = positions_N[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def sincos_table(grid: Grid, width: int, *, uniform: bool) -> np.ndarray:
    """Fixed table [N, width] float32 for a grid, axes in the order step, row, column (V-JEPA 1).

    Widths per axis are C/2, C/4, C/4, or with `uniform` ceil(C/6)*2 each, cut to C in all.
    """
    step, row, column = (axis.reshape(-1) for axis in np.indices(tuple(grid)))
    widths = (2 * -(-width // 6),) * 3 if uniform else (width // 2, width // 4, width // 4)
    codes = [_axis_code(p, w) for p, w in zip((step, row, column), widths, strict=True)]
    return np.concatenate(codes, axis=1)[:, :width].astype(np.float32)
