"""64-bit digests of array leaves, computed where the arrays live.

Orbax restores a data file with a flipped bit without a word, so each leaf's digest is stored at save and
compared after restore. A cryptographic hash would need the bytes in one order on one host; this one is a sum,
so each device adds up its own shard and the shards' sums are added: any mesh gives the same value, and only 8
bytes a leaf travel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.checkpoints.tree import leaves_by_path

_SEEDS = (0x9E3779B9, 0x7F4A7C15)


def tree_digests(tree: Any) -> dict[str, str]:
    """Path -> digest (16 hexadecimal digits) of every leaf of a tree of arrays.

    A leaf is read as uint32 words w_i (16-bit and smaller elements one to a word, 64-bit ones two), and the
    digest is the pair, over two seeds s, of sum_i mix(w_i XOR mix(s + i)) mod 2^32, where mix is
    MurmurHash3's finaliser.

    Certainty: mix and XOR are bijections of 32-bit words, so when any single word changes, by one bit or by
    many, exactly one summand changes and both sums change for certain. When several words change, the
    summands behave like random ones and damage stays unseen with a chance of about 2^-64. The position i
    makes swapped elements visible. i counts modulo 2^32: in a leaf of more than 2^32 words all the above
    holds, except that swapping two words exactly a multiple of 2^32 apart is not seen.

    Shape and dtype are not part of the digest; the manifest lists them beside it. On several processes all
    must call this, and all get every digest. Raises ValueError for leaves that are not arrays and for complex
    dtypes.
    """
    return table_digests(leaves_by_path(tree))


def table_digests(leaves: Mapping[str, Any]) -> dict[str, str]:
    """`tree_digests` of a table from path to leaf."""
    sums = {path: _start(path, leaf) for path, leaf in leaves.items()}
    return {path: "".join(f"{int(word):08x}" for word in pair) for path, pair in jax.device_get(sums).items()}


def _start(path: str, leaf: Any) -> jax.Array:
    """Enqueues one leaf's digest: (2,) uint32, the same on every device of the leaf's mesh."""
    if np.dtype(leaf.dtype).kind == "c":
        raise ValueError(f"state leaf {path}: dtype {leaf.dtype} has no digest; store real and imaginary parts")
    replicated = None
    if isinstance(leaf, jax.Array) and isinstance(leaf.sharding, jax.sharding.NamedSharding):
        replicated = jax.sharding.NamedSharding(leaf.sharding.mesh, jax.sharding.PartitionSpec())
    return _compiled(replicated)(_without_64_bit_host_words(leaf))


@functools.lru_cache(maxsize=8)
def _compiled(replicated: jax.sharding.NamedSharding | None) -> Any:
    return jax.jit(_sums, out_shardings=replicated)


def _without_64_bit_host_words(leaf: Any) -> Any:
    """Splits a host array's 64-bit elements in two, low word first: JAX would silently narrow them."""
    if isinstance(leaf, jax.Array) or np.dtype(leaf.dtype).itemsize != 8:
        return leaf
    return np.frombuffer(np.ascontiguousarray(leaf).tobytes(), "<u4").reshape(*leaf.shape, 2)


def _sums(x: jax.Array) -> jax.Array:
    words = _words(x)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):  # an iota per axis, not a reshape, leaves the sharding alone
        stride = jnp.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride
    return jnp.stack([jnp.sum(_mix(words ^ _mix(position + jnp.uint32(seed))), dtype=jnp.uint32) for seed in _SEEDS])


def _words(x: jax.Array) -> jax.Array:
    """The bits of x as uint32, one word an element; 64-bit elements get a last axis of 2 words."""
    if x.dtype == jnp.bool_:
        return x.astype(jnp.uint32)
    width = jnp.iinfo(x.dtype).bits if jnp.issubdtype(x.dtype, jnp.integer) else jnp.finfo(x.dtype).bits
    if width >= 32:
        return jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{width}")).astype(jnp.uint32)


def _mix(word: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which each input bit moves every output bit about half the time."""
    word = (word ^ (word >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> jnp.uint32(16))
