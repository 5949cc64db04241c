"""The derivative of `forward`: of queries, keys and values, and its sum over tokens, which is that of their bias.

Weights are computed again from the kept log-sum-exp. The products of a block of keys are made one block ahead of the
exponentials that wait for them. Everything that grows is kept transposed, [lanes, tokens], so that products have D
rows and not 128 padded columns.

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

from surgmotion_jax.models.kernels.forward import ROWS_BY_ROWS, of_head, zero_rows
from surgmotion_jax.models.kernels.rotation import LaneCode, rotate, rotate_back
from surgmotion_jax.models.kernels.tiles import LANES, Chunk, Rows, Tiles

VALUES = slice(2 * LANES, 3 * LANES)


class Scratch(NamedTuple):
    """Buffers of a backward kernel. Those that are `_T` are transposed."""

    queries: jax.Ref  # rotated
    queries_T: jax.Ref
    keys: jax.Ref  # rotated
    keys_T: jax.Ref
    slopes: jax.Ref  # of the output
    slopes_T: jax.Ref
    along: jax.Ref  # product of each query's output and its slope, by head: float32, like all below
    by_queries_T: jax.Ref
    by_keys_T: jax.Ref
    by_values_T: jax.Ref

    @staticmethod
    def shapes(tiles: Tiles, dtype: jnp.dtype) -> list[pl.MemoryRef]:
        n, q = tiles.tokens, tiles.queries
        sizes = [(q, LANES), (LANES, q), (n, LANES), (LANES, n), (q, LANES), (LANES, q)]
        sums = [(tiles.heads, q), (LANES, q), (LANES, n), (LANES, n)]
        return [*(pltpu.VMEM(s, dtype) for s in sizes), *(pltpu.VMEM(s, jnp.float32) for s in sums)]


class Given(NamedTuple):
    """What a backward kernel reads."""

    qkv: jax.Ref
    out: jax.Ref
    slope: jax.Ref
    sums: jax.Ref
    code: LaneCode | None


@dataclass(frozen=True)
class Backward:
    """The kernel for given tiles; `rotary`: it is given a position code."""

    tiles: Tiles
    rotary: bool

    def __call__(self, qkv: jax.Ref, out: jax.Ref, slope: jax.Ref, sums: jax.Ref, *refs: jax.Ref) -> None:
        """References: qkv [1,N,384], out, slope [1,N,128], sums, [code,] by_qkv, by_bias [1,1,1,384], scratch."""
        given = Given(qkv, out, slope, sums, LaneCode(*refs[:2]) if self.rotary else None)
        by_qkv, by_bias, *rest = refs[2:] if self.rotary else refs
        scratch = Scratch(*rest)
        self._prepare(given, scratch)
        self.tiles.over_chunks(lambda chunk, then, carry: self._chunk(chunk, given, scratch, carry), 0)
        self._finish(given.code, scratch, by_qkv, by_bias)

    @property
    def block(self) -> int:
        """Keys of a block."""
        return 256 if self.tiles.tokens > 512 else 128

    def _prepare(self, given: Given, scratch: Scratch) -> None:
        dtype, tiles = scratch.keys.dtype, self.tiles

        def rows(at: Rows) -> None:
            query, key = (given.qkv[0, at, i * LANES : (i + 1) * LANES].astype(jnp.float32) for i in range(2))
            query, key = rotate(query, given.code, at), rotate(key, given.code, at)
            scratch.queries[at], scratch.queries_T[:, at] = query.astype(dtype), query.T.astype(dtype)
            scratch.keys[at], scratch.keys_T[:, at] = key.astype(dtype), key.T.astype(dtype)
            slope_T = given.slope[0, at].astype(jnp.float32).T
            scratch.slopes[at], scratch.slopes_T[:, at] = given.slope[0, at], slope_T.astype(dtype)
            along = slope_T * given.out[0, at].astype(jnp.float32).T
            for head in range(tiles.heads):
                scratch.along[head : head + 1, at] = along[self._lanes(head)].sum(0, keepdims=True)

        tiles.over_rows(rows)
        for ref in (scratch.queries, scratch.slopes):
            zero_rows(ref, tiles)
        for ref in (scratch.queries_T, scratch.slopes_T, scratch.along):
            if tiles.queries > tiles.tokens:
                ref[:, tiles.tokens :] = jnp.zeros((ref.shape[0], tiles.queries - tiles.tokens), ref.dtype)
        for ref in (scratch.by_keys_T, scratch.by_values_T):
            ref[...] = jnp.zeros_like(ref)

    def _lanes(self, head: int) -> slice:
        return slice(head * self.tiles.head_dim, (head + 1) * self.tiles.head_dim)

    def _chunk(self, chunk: Chunk, given: Given, scratch: Scratch, carry: int) -> int:
        for head in range(self.tiles.heads):
            self._one(head, chunk, given, scratch)
        return carry

    def _one(self, head: int, chunk: Chunk, given: Given, scratch: Scratch) -> None:
        """Adds what one head's queries of a chunk give to the derivatives of all keys and values, and to their own."""
        lanes, scale = self._lanes(head), self.tiles.head_dim**-0.5
        total, along = given.sums[0, 0, head : head + 1, chunk.at], scratch.along[head : head + 1, chunk.at]

        def blocks(parts: list[Rows], by_query_T: jax.Array) -> jax.Array:
            query = of_head(scratch.queries[chunk.at], head, self.tiles.head_dim)
            slope = of_head(scratch.slopes[chunk.at], head, self.tiles.head_dim)
            ahead = _products(query, slope, parts[0], given, scratch)
            for at, following in zip(parts, [*parts[1:], None], strict=True):
                logits, by_weights = ahead
                ahead = ahead if following is None else _products(query, slope, following, given, scratch)
                weights = jnp.exp2(logits * (scale * math.log2(math.e)) - total)
                by_logits = (weights * (by_weights - along)).astype(query.dtype)
                weights = weights.astype(query.dtype)
                by_query_T += jnp.dot(scratch.keys_T[lanes, at], by_logits, preferred_element_type=jnp.float32)
                scratch.by_values_T[lanes, at] += _by_rows(scratch.slopes_T[lanes, chunk.at], weights)
                scratch.by_keys_T[lanes, at] += _by_rows(scratch.queries_T[lanes, chunk.at], by_logits)
            return by_query_T

        first = jnp.zeros((self.tiles.head_dim, chunk.width), jnp.float32)
        scratch.by_queries_T[lanes, chunk.at] = self.tiles.over_blocks(self.block, blocks, first) * scale

    def _finish(self, code: LaneCode | None, scratch: Scratch, by_qkv: jax.Ref, by_bias: jax.Ref) -> None:
        """Turns derivatives back to where they were before rotation, writes them and their sums over tokens."""
        scale = self.tiles.head_dim**-0.5
        by_bias[...] = jnp.zeros_like(by_bias)

        def write(at: Rows) -> None:
            by_query = rotate_back(scratch.by_queries_T[:, at].T, code, at)
            by_key = rotate_back(scratch.by_keys_T[:, at].T * scale, code, at)
            for i, slope in enumerate((by_query, by_key, scratch.by_values_T[:, at].T)):
                part = slice(i * LANES, (i + 1) * LANES)
                by_qkv[0, at, part] = slope.astype(by_qkv.dtype)
                by_bias[0, 0, :, part] += slope.sum(0, keepdims=True)

        self.tiles.over_rows(write)


def _by_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    return jax.lax.dot_general(a, b, ROWS_BY_ROWS, preferred_element_type=jnp.float32)


def _products(
    query: jax.Array, slope: jax.Array, at: Rows, given: Given, scratch: Scratch
) -> tuple[jax.Array, jax.Array]:
    """Logits [R,Q] of the keys `at`, unscaled, and the derivative of their weights."""
    return _by_rows(scratch.keys[at], query), _by_rows(given.qkv[0, at, VALUES], slope)
