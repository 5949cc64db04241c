"""Displacement of blocks between two frames by exhaustive search over whole pixels, without a gather.

A shift is a slice of the padded second frame, so one loop over shifts serves all blocks at once. Blocks lie on a grid
of half the frame's resolution, or of the frame's own, and overlap: each weighs its neighbourhood like a tent.

Letters: F pairs of frames, h and w rows and columns of a frame, m and n rows and columns of blocks, S = 2 * radius + 1
shifts along one axis.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Cost of a pixel of displacement: decides for the smaller of two shifts where a block shows nothing to tell them
# apart. Features differ by about 1 where they do not match.
PER_PIXEL = 0.01


class Match(NamedTuple):
    """The best shift of every block."""

    shift_Fxmxnx2: jax.Array  # pixels of the frame (right, down), finer than a pixel
    firm_Fxmxnx2: jax.Array  # how sharply the cost rises along each axis around it; 0 on the rim of the search


def tent(x: jax.Array) -> jax.Array:
    """Each entry with its neighbours of the last two axes, weighed 1, 2, 1; the border counts twice."""
    for axis in (x.ndim - 2, x.ndim - 1):
        size = x.shape[axis]
        before = jnp.concatenate([_slice(x, 0, 1, axis), _slice(x, 0, size - 1, axis)], axis)
        after = jnp.concatenate([_slice(x, 1, size, axis), _slice(x, size - 1, size, axis)], axis)
        x = 0.5 * x + 0.25 * (before + after)
    return x


def blocks(x: jax.Array) -> jax.Array:
    """Means of overlapping blocks, a block for every 2 x 2 pixels: [..., h, w] to [..., h / 2, w / 2]."""
    *rest, height, width = x.shape
    return tent(x.reshape(*rest, height // 2, 2, width // 2, 2).mean((-3, -1)))


def match(first_Fxhxw: jax.Array, second_Fxhxw: jax.Array, radius: int, *, dense: bool = False) -> Match:
    """Where each block of the first frame lies in the second: least mean absolute difference over all shifts.

    Args:
      first_Fxhxw: features of mean 0; beyond its border the second frame counts as 0.
      second_Fxhxw: the same of the later frames.
      radius: of the search, in pixels along each axis.
      dense: a block for every pixel rather than every 2 x 2.
    """
    cost_SxSxFxmxn = _costs(first_Fxhxw, second_Fxhxw, radius, dense)
    shifts = jnp.arange(2 * radius + 1)
    far_SxS = PER_PIXEL * jnp.hypot(shifts[:, None] - radius, shifts - radius)
    ranked = (cost_SxSxFxmxn + far_SxS[:, :, None, None, None]).reshape(-1, *cost_SxSxFxmxn.shape[2:])
    best_Fxmxn = jnp.argmin(ranked, axis=0)
    down_Fxmxn, right_Fxmxn = best_Fxmxn // len(shifts), best_Fxmxn % len(shifts)

    def cost_at(down: int, right: int) -> jax.Array:
        # A sum over all shifts of which one counts: what a gather would pick.
        row = shifts[:, None, None, None] == down_Fxmxn + down
        column = shifts[:, None, None, None] == right_Fxmxn + right
        return jnp.where(row[:, None] & column[None], cost_SxSxFxmxn, 0.0).sum((0, 1))

    least = cost_at(0, 0)
    x, firm_x = _between(cost_at(0, -1), least, cost_at(0, 1), right_Fxmxn, 2 * radius)
    y, firm_y = _between(cost_at(-1, 0), least, cost_at(1, 0), down_Fxmxn, 2 * radius)
    shift = jnp.stack([right_Fxmxn - radius + x, down_Fxmxn - radius + y], axis=-1)
    return Match(shift, jnp.stack([firm_x, firm_y], axis=-1))


def _costs(first_Fxhxw: jax.Array, second_Fxhxw: jax.Array, radius: int, dense: bool) -> jax.Array:
    """Mean absolute difference of blocks, [S,S,F,m,n]; the first axis is the shift down, the second the one right."""
    _, height, width = first_Fxhxw.shape
    padded = jnp.pad(second_Fxhxw, ((0, 0), (radius, radius), (radius, radius)))

    def down(start: jax.Array) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(padded, start, height, axis=1)
        shifted = jnp.stack([rows[:, :, right : right + width] for right in range(2 * radius + 1)])
        away = jnp.abs(first_Fxhxw - shifted)
        return tent(tent(away)) if dense else blocks(away)

    return jax.lax.map(down, jnp.arange(2 * radius + 1))


def _between(
    before: jax.Array, least: jax.Array, after: jax.Array, place: jax.Array, last: int
) -> tuple[jax.Array, jax.Array]:
    """Offset of the minimum from the best whole shift along one axis, and the rise of the cost around it.

    Two lines of opposite slope through the three costs, as absolute differences ask. At the rim of the search there
    is no minimum.
    """
    rim = (place == 0) | (place == last)
    steeper = jnp.maximum(jnp.maximum(before, after) - least, 1e-6)
    offset = jnp.clip(0.5 * (before - after) / steeper, -0.5, 0.5)
    rise = jnp.maximum(before + after - 2 * least, 0)
    return jnp.where(rim, 0.0, offset), jnp.where(rim, 0.0, rise)


def _slice(x: jax.Array, start: int, stop: int, axis: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, start, stop, axis=axis)
