"""How the attention of a group of heads is cut into what a core works on at a time.

A group is as many heads as lie side by side in the 128 lanes of a vector register. Its logits are held transposed,
[keys, queries]: softmax then reduces over sublanes, which is cheap, and no key has to be masked, since only lanes are
padded. Queries come in chunks of whole registers; keys in blocks, of any number of rows.

Letters: N tokens, G groups, Q queries of a chunk, R keys of a block, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
from jax.experimental import pallas as pl

LANES = 128
HEAD_DIMS = (32, 64, 128)
CHUNK = 256  # queries
ROWS = 256  # tokens that are rotated, transposed or written at a time
UNROLLED = 8  # blocks of keys written out one after the other; more of them are a loop, which compiles faster

Carry = TypeVar("Carry")
Rows = slice | pl.Slice  # what `pl.ds` gives


class Chunk(NamedTuple):
    """Queries that are worked on together."""

    number: int | jax.Array
    at: Rows
    width: int


@dataclass(frozen=True)
class Tiles:
    """The cut of `tokens` queries and keys of heads of `head_dim`."""

    tokens: int
    head_dim: int

    @property
    def heads(self) -> int:
        """Heads of a group."""
        return LANES // self.head_dim

    @property
    def whole_chunks(self) -> int:
        """Chunks of `CHUNK` queries; a short sequence is one chunk of its own size."""
        return 0 if padded(self.tokens) <= 2 * CHUNK else self.tokens // CHUNK

    @property
    def rest(self) -> int:
        """Queries of the last chunk, padded to whole registers; 0 if there is none."""
        return padded(self.tokens - self.whole_chunks * CHUNK)

    @property
    def queries(self) -> int:
        """Queries of all chunks."""
        return self.whole_chunks * CHUNK + self.rest

    @property
    def widest(self) -> int:
        return CHUNK if self.whole_chunks else self.rest

    @property
    def first(self) -> Chunk:
        return self._whole(0) if self.whole_chunks else self._last()[0]

    def _whole(self, number: int | jax.Array) -> Chunk:
        start = number * CHUNK if isinstance(number, int) else pl.multiple_of(number * CHUNK, CHUNK)
        return Chunk(number, pl.ds(start, CHUNK), CHUNK)

    def _last(self) -> list[Chunk]:
        """The chunks after which nothing but another of these comes."""
        whole, rest = self.whole_chunks, self.rest
        chunks = [self._whole(whole - 1)] if whole else []
        return [*chunks, Chunk(whole, pl.ds(whole * CHUNK, rest), rest)] if rest else chunks

    def over_chunks(self, body: Callable[[Chunk, Chunk | None, Carry], Carry], first: Carry) -> Carry:
        """carry = body(chunk, the chunk after it, carry) for every chunk in turn; nothing comes after the last."""
        carry = first
        if self.whole_chunks > 1:
            carry = jax.lax.fori_loop(
                0, self.whole_chunks - 1, lambda i, c: body(self._whole(i), self._whole(i + 1), c), first
            )
        last = self._last()
        for chunk, following in zip(last, [*last[1:], None], strict=True):
            carry = body(chunk, following, carry)
        return carry

    def over_blocks(self, size: int, body: Callable[[list[Rows], Carry], Carry], first: Carry) -> Carry:
        """carry = body(blocks of `size` keys that follow each other, carry), until all keys have been there."""
        whole, rest = divmod(self.tokens, size)
        looped = whole // UNROLLED if whole >= 2 * UNROLLED else 0

        def several(i: jax.Array, carry: Carry) -> Carry:
            starts = [pl.multiple_of((i * UNROLLED + j) * size, size) for j in range(UNROLLED)]
            return body([pl.ds(start, size) for start in starts], carry)

        carry = jax.lax.fori_loop(0, looped, several, first) if looped else first
        blocks: list[Rows] = [pl.ds(i * size, size) for i in range(looped * UNROLLED, whole)]
        blocks += [pl.ds(whole * size, rest)] if rest else []
        return body(blocks, carry) if blocks else carry

    def over_rows(self, body: Callable[[Rows], None]) -> None:
        """body(rows) for all tokens, some rows at a time."""
        whole, rest = divmod(self.tokens, ROWS)
        if whole <= 2:
            body(pl.ds(0, self.tokens))
            return

        def one(i: jax.Array, carry: int) -> int:
            body(pl.ds(pl.multiple_of(i * ROWS, ROWS), ROWS))
            return carry

        jax.lax.fori_loop(0, whole, one, 0)
        if rest:
            body(pl.ds(whole * ROWS, rest))


def padded(count: int) -> int:
    """`count` rounded up to whole registers."""
    return -(-count // LANES) * LANES
