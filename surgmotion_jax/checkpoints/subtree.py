"""Loading a part of a checkpoint, such as one encoder, without the program that wrote it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.manifest import Manifest
from surgmotion_jax.checkpoints.retention import MANIFEST_ITEM
from surgmotion_jax.checkpoints.store import Abstract, CheckpointStore, Restored, load_verified
from surgmotion_jax.checkpoints.tree import nest


def load_subtree(
    directory: storage.PathLike,
    prefixes: Sequence[str],
    *,
    step: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Restored:
    """Loads the leaves under some path prefixes, such as `["target_encoder"]`, needing no template.

    `directory` holds steps, or is one step; default is the newest. The state is a nested dict of NumPy
    arrays, or of JAX arrays if a sharding is given (one for all leaves, so replicated or single-device).
    Verified by digest; no other step is tried, so that an evaluation never measures an earlier one unawares.

    Raises CheckpointMissing, CheckpointDamaged naming the leaf or file, ValueError for a prefix without
    leaves.
    """
    store = CheckpointStore(directory)
    if step is None and store.directory.name.isdigit() and (store.directory / MANIFEST_ITEM).exists():
        store, step = CheckpointStore(store.directory.parent), int(store.directory.name)
    manifest = store.read_manifest(step)
    checkpoint = store.directory / str(store.latest() if step is None else step)
    wanted = _select(manifest, prefixes, sharding, checkpoint)
    loaded = load_verified(checkpoint, manifest, wanted)
    return Restored(nest(loaded), manifest, manifest.step)


def _select(
    manifest: Manifest,
    prefixes: Sequence[str],
    sharding: jax.sharding.Sharding | None,
    checkpoint: epath.Path,
) -> dict[str, Abstract]:
    """Abstract leaves, from the manifest alone, of every path that is or lies under one of the prefixes."""
    wanted: dict[str, Abstract] = {}
    for prefix in prefixes:
        paths = [path for path in manifest.tree if path == prefix or path.startswith(prefix.rstrip("/") + "/")]
        if not paths:
            top = sorted({path.split("/")[0] for path in manifest.tree})
            raise ValueError(f"{checkpoint}: no leaf under {prefix!r}; its top-level names are {top}")
        for path in paths:
            shape, dtype = tuple(manifest.tree[path]["shape"]), jax.numpy.dtype(manifest.tree[path]["dtype"])
            if sharding is None:  # a zero-stride array says "NumPy, this shape" to Orbax and takes no memory
                wanted[path] = np.broadcast_to(np.zeros((), dtype), shape)
            else:
                wanted[path] = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return wanted
