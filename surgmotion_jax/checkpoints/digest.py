"""64-bit digests of array leaves, computed where the arrays live.

Orbax restores a data file with a flipped bit without a word, so each leaf's digest is stored at save and
compared after restore. A cryptographic hash would need the bytes in one order on one host; this one is a sum,
so each device adds up its own shard and the host adds the shards' sums: any mesh gives the same value, and only 8
bytes a leaf and device travel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from surgmotion_jax.checkpoints.tree import Array, Tree, leaves_by_path

_SEEDS = (0x9E3779B9, 0x7F4A7C15)
_PIECE_BYTES = 16 * 2**20


def tree_digests(tree: Tree) -> dict[str, str]:
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


def table_digests(leaves: Mapping[str, Array]) -> dict[str, str]:
    """`tree_digests` of a table from path to leaf."""
    parts = {path: _start(path, leaf) for path, leaf in leaves.items()}
    local = np.array([_local_sum(part) for part in parts.values()], np.uint32).reshape(-1, 2)
    if jax.process_count() > 1:
        everyone = np.asarray(multihost_utils.process_allgather(local))
        local = everyone.sum(0, dtype=np.uint32)
    return {path: "".join(f"{int(word):08x}" for word in pair) for path, pair in zip(parts, local, strict=True)}


def _local_sum(part_Dx2: jax.Array) -> np.ndarray:
    """Adds up the partial digests of this process's devices, modulo 2^32."""
    shards = [np.asarray(shard.data) for shard in part_Dx2.addressable_shards]
    return np.concatenate(shards).sum(0, dtype=np.uint32)


def _start(path: str, leaf: Array) -> jax.Array:
    """Enqueues one leaf's partial digests, one row of two words a device of the leaf's mesh."""
    if np.dtype(leaf.dtype).kind == "c":
        raise ValueError(f"state leaf {path}: dtype {leaf.dtype} has no digest; store real and imaginary parts")
    if isinstance(leaf, jax.Array) and leaf.sharding.memory_kind == "pinned_host":
        # Arithmetic happens in device memory: an offloaded leaf visits it, one at a time.
        leaf = jax.device_put(leaf, leaf.sharding.with_memory_kind("device"))
    if isinstance(leaf, jax.Array) and isinstance(leaf.sharding, jax.sharding.NamedSharding):
        return _compiled(leaf.sharding.mesh, leaf.sharding.spec, leaf.shape)(leaf)
    if jax.process_count() > 1 and jax.process_index() > 0:
        return jnp.zeros((1, 2), jnp.uint32)  # every process holds this leaf whole; the first one counts it
    if isinstance(leaf, jax.Array):
        return _from_row(leaf, leaf.shape, np.uint32(0))
    return _in_pieces(_without_64_bit_host_words(leaf))


def _in_pieces(leaf: np.ndarray) -> jax.Array:
    """The digest of a host array, some rows at a time: computed whole, it would take three times the leaf's memory."""
    if leaf.ndim == 0 or leaf.nbytes <= _PIECE_BYTES:
        return _from_row(leaf, leaf.shape, np.uint32(0))
    rows = max(1, _PIECE_BYTES * len(leaf) // leaf.nbytes)
    total = np.zeros((1, 2), np.uint32)
    for start in range(0, len(leaf), rows):
        total += np.asarray(
            _from_row(leaf[start : start + rows], leaf.shape, np.uint32(start % 2**32))
        )  # waits: one is held
    return jnp.asarray(total)


@functools.partial(jax.jit, static_argnums=1)
def _from_row(x: jax.Array, shape: tuple[int, ...], row: np.uint32) -> jax.Array:
    """The sums over rows of a leaf of `shape`, from `row` on."""
    return _sums(x, shape, (row,) * min(x.ndim, 1))[None]


@functools.lru_cache(maxsize=1024)
def _compiled(
    mesh: jax.sharding.Mesh, spec: jax.sharding.PartitionSpec, shape: tuple[int, ...]
) -> Callable[[jax.Array], jax.Array]:
    """The digest of each device's own shard. It communicates nothing, so it can wait for nobody."""
    entries = [entry if isinstance(entry, tuple) else (entry,) for entry in spec]
    axes_of_dim = [tuple(a for a in entry if a is not None) for entry in entries]
    axes_of_dim += [()] * (len(shape) - len(axes_of_dim))
    spare = tuple(a for a in mesh.axis_names if all(a not in axes for axes in axes_of_dim))

    def local(x: jax.Array) -> jax.Array:
        starts = tuple(
            jax.lax.axis_index(axes) * size if axes else 0 for axes, size in zip(axes_of_dim, x.shape, strict=True)
        )
        # Of the copies along the axes that do not split the leaf, one counts.
        first = jax.lax.axis_index(spare) == 0 if spare else True
        return jnp.where(first, _sums(x, shape, starts), jnp.uint32(0))[None]

    rows = jax.sharding.PartitionSpec(mesh.axis_names)
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=rows, check_vma=False))


def _without_64_bit_host_words(leaf: np.ndarray) -> np.ndarray:
    """Splits a host array's 64-bit elements in two, low word first: JAX would silently narrow them."""
    if leaf.dtype.itemsize != 8:
        return leaf
    return np.frombuffer(np.ascontiguousarray(leaf).tobytes(), "<u4").reshape(*leaf.shape, 2)


def _sums(x: jax.Array, shape: tuple[int, ...], starts: Sequence[int | np.uint32 | jax.Array]) -> jax.Array:
    """The two sums over a block of a leaf of `shape` that begins at `starts`."""
    words = _words(x)
    shape = (*shape, *words.shape[x.ndim :])
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = jnp.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        start = jnp.asarray(starts[axis] if axis < len(starts) else 0).astype(jnp.uint32)
        position += (jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) + start) * stride
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
