"""softmax(q k^T D^-1/2) v of one group of heads of one clip, rotary positions included.

While the vector unit exponentiates one head's logits, the matrix unit makes the next one's: two buffers of logits.

Letters: N tokens, Q queries of a chunk, R keys of a block, D head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from surgmotion_jax.models.kernels.rotation import LaneCode, rotate
from surgmotion_jax.models.kernels.tiles import LANES, Chunk, Rows, Tiles

BLOCK = 256  # keys
ROWS_BY_ROWS = (((1,), (1,)), ((), ()))  # a product with the transpose of its second factor


class Unit(NamedTuple):
    """One head's share of a chunk: what the pipeline works on at a time."""

    head: int
    chunk: Chunk
    buffer: int | jax.Array  # of its logits


class Scratch(NamedTuple):
    """Buffers of a forward kernel."""

    queries: jax.Ref  # rotated
    keys: jax.Ref  # rotated
    values: jax.Ref  # transposed
    out: jax.Ref  # transposed, float32
    logits: jax.Ref  # of two units, [keys, queries]

    @staticmethod
    def shapes(tiles: Tiles, dtype: jnp.dtype) -> list[pl.MemoryRef]:
        n, q = tiles.tokens, tiles.queries
        return [
            *(pltpu.VMEM((rows, LANES), dtype) for rows in (q, n)),
            pltpu.VMEM((LANES, n), dtype),
            pltpu.VMEM((LANES, q), jnp.float32),
            pltpu.VMEM((2, n, tiles.widest), jnp.float32),
        ]


def of_head(x: jax.Array, head: int, head_dim: int) -> jax.Array:
    """x [rows,128] with the lanes of the group's other heads set to zero, so that products leave them out."""
    if head_dim == LANES:
        return x
    lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.where((lane >= head * head_dim) & (lane < (head + 1) * head_dim), x, jnp.zeros_like(x))


@dataclass(frozen=True)
class Forward:
    """The kernel for given tiles. `sums`: it writes log-sum-exps too; `rotary`: it is given a position code."""

    tiles: Tiles
    rotary: bool
    sums: bool

    def __call__(self, qkv: jax.Ref, *refs: jax.Ref) -> None:
        """References: qkv [1,N,384], [code, two of [1,N,128],] out [1,N,128], [sums [1,1,heads,Q],] scratch."""
        code = LaneCode(*refs[:2]) if self.rotary else None
        out, *rest = refs[2:] if self.rotary else refs
        sums = rest[0] if self.sums else None
        scratch = Scratch(*rest[1:] if self.sums else rest)
        self._prepare(qkv, code, scratch)
        first = self._unit(self.tiles.first, 0)
        top = self.tiles.over_blocks(
            BLOCK, lambda blocks, top: self._all_logits(first, blocks, top, scratch), _lowest(first)
        )
        self.tiles.over_chunks(lambda chunk, then, top: self._chunk(chunk, then, top, sums, scratch), top)

        def write(at: Rows) -> None:
            out[0, at] = scratch.out[:, at].T.astype(out.dtype)

        self.tiles.over_rows(write)

    @property
    def scale(self) -> float:
        """Of logits, to base 2: what is exponentiated is a power of two."""
        return self.tiles.head_dim**-0.5 * math.log2(math.e)

    def _prepare(self, qkv: jax.Ref, code: LaneCode | None, scratch: Scratch) -> None:
        """Rotates queries and keys, transposes values, and zeroes the queries that are padding."""
        dtype = scratch.keys.dtype

        def rows(at: Rows) -> None:
            wide = [qkv[0, at, i * LANES : (i + 1) * LANES].astype(jnp.float32) for i in range(3)]
            scratch.queries[at] = rotate(wide[0], code, at).astype(dtype)
            scratch.keys[at] = rotate(wide[1], code, at).astype(dtype)
            scratch.values[:, at] = wide[2].T.astype(dtype)

        self.tiles.over_rows(rows)
        zero_rows(scratch.queries, self.tiles)

    def _unit(self, chunk: Chunk, head: int) -> Unit:
        """Neighbours in the order of work have different buffers."""
        return Unit(head, chunk, head % 2 if self.tiles.heads > 1 else chunk.number % 2)

    def _chunk(
        self, chunk: Chunk, then: Chunk | None, top: jax.Array, sums: jax.Ref | None, scratch: Scratch
    ) -> jax.Array:
        units = [self._unit(chunk, head) for head in range(self.tiles.heads)]
        ahead = [*units[1:], self._unit(then, 0) if then else None]
        for unit, following in zip(units, ahead, strict=True):
            top = self._one(unit, following, top, sums, scratch)
        return top

    def _one(
        self, unit: Unit, following: Unit | None, top: jax.Array, sums: jax.Ref | None, scratch: Scratch
    ) -> jax.Array:
        """Softmax and sum of values for `unit`, whose largest logits are `top`; returns those of the unit ahead."""
        d, width = self.tiles.head_dim, unit.chunk.width
        lanes = slice(unit.head * d, (unit.head + 1) * d)

        def blocks(parts: list[Rows], carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            total, mixed, next_top = carry
            query = self._query(following, scratch) if following else None
            for at in parts:
                if query is not None and following:
                    next_top = self._logits(following, query, at, next_top, scratch)
                weights = jnp.exp2((scratch.logits[unit.buffer, at, :width] - top) * self.scale)
                total = total + weights.sum(0, keepdims=True)
                values = scratch.values[lanes, at]
                mixed = mixed + jnp.dot(values, weights.astype(values.dtype), preferred_element_type=jnp.float32)
            return total, mixed, next_top

        zeros = [jnp.zeros((rows, width), jnp.float32) for rows in (1, d)]
        total, mixed, next_top = self.tiles.over_blocks(BLOCK, blocks, (*zeros, _lowest(following or unit)))
        scratch.out[lanes, unit.chunk.at] = mixed * (1 / total)
        if sums is not None:
            sums[0, 0, unit.head : unit.head + 1, unit.chunk.at] = top * self.scale + jnp.log2(total)
        return next_top

    def _all_logits(self, unit: Unit, blocks: list[Rows], top: jax.Array, scratch: Scratch) -> jax.Array:
        query = self._query(unit, scratch)
        for at in blocks:
            top = self._logits(unit, query, at, top, scratch)
        return top

    def _query(self, unit: Unit, scratch: Scratch) -> jax.Array:
        return of_head(scratch.queries[unit.chunk.at], unit.head, self.tiles.head_dim)

    def _logits(self, unit: Unit, query: jax.Array, at: Rows, top: jax.Array, scratch: Scratch) -> jax.Array:
        """Writes a unit's logits for some keys, unscaled; returns the largest so far, [1,Q]."""
        logits = jax.lax.dot_general(scratch.keys[at], query, ROWS_BY_ROWS, preferred_element_type=jnp.float32)
        scratch.logits[unit.buffer, at, : unit.chunk.width] = logits
        return jnp.maximum(top, logits.max(0, keepdims=True))


def zero_rows(ref: jax.Ref, tiles: Tiles) -> None:
    """Sets the rows after the last token to zero."""
    if tiles.queries > tiles.tokens:
        ref[tiles.tokens :] = jnp.zeros((tiles.queries - tiles.tokens, ref.shape[1]), ref.dtype)


def _lowest(unit: Unit) -> jax.Array:
    return jnp.full((1, unit.chunk.width), -jnp.inf, jnp.float32)
