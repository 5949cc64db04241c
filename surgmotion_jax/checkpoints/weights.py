"""Converted weights as a checkpoint of ours, and finding a checkpoint from the path that a person gives.

Weights are written leaf by leaf: a leaf may be given as a function, which is called when its turn comes, so that a
conversion holds a few leaves at a time and never the model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.best import BEST_NAME, read_best
from surgmotion_jax.checkpoints.digest import table_digests
from surgmotion_jax.checkpoints.errors import CheckpointError, CheckpointMissing
from surgmotion_jax.checkpoints.manifest import Manifest, ManifestFields, describe
from surgmotion_jax.checkpoints.retention import COMMIT_FILE, MANIFEST_FILE, MANIFEST_ITEM, list_steps
from surgmotion_jax.checkpoints.store import append_leaves, complete
from surgmotion_jax.checkpoints.tree import Tree, leaves_by_path

Leaf = np.ndarray | Callable[[], np.ndarray]
Table = dict[str, np.ndarray]

STEP = 0
_BATCH_BYTES = 128 * 2**20  # small leaves are written together: each write costs several files


def save_weights(dst: storage.PathLike, leaves: Tree, fields: ManifestFields) -> None:
    """Writes nested dicts of arrays, or of functions that make them, as step 0 of the new directory `dst`.

    By convention `params` holds `encoder`, `predictor`, a probe, and `target` holds `encoder`. Everything is written
    beside `dst` and renamed once complete. Memory: the largest leaf and its compressed copy, and about 0.5 GB of
    buffers, whatever the number of leaves. To be called in one process.

    Raises CheckpointError if `dst` exists, is not local or cannot be written, ValueError for leaves or fields that
    cannot be stored; what the functions raise passes through. Then nothing is left.
    """
    target = _free(dst)
    leaf_of = _functions_by_path(leaves)
    describe(STEP, {}, {}, fields).to_dict()  # what is not JSON is found before hours of writing
    draft = storage.Draft(target)
    checkpoint = storage.as_path(draft.temporary) / str(STEP)
    try:
        manifest = _write_leaves(checkpoint, leaf_of, fields)
        _writing(target, complete, checkpoint)
        text = json.dumps(manifest.to_dict())
        _writing(target, storage.write_text_atomic, checkpoint / MANIFEST_ITEM / MANIFEST_FILE, text)
        _writing(target, draft.publish)
    finally:
        draft.discard()


def _free(dst: storage.PathLike) -> epath.Path:
    if not storage.is_local(dst):
        where = os.fspath(dst)
        raise CheckpointError(f"{where}: converted weights are written to a local directory; copy it there afterwards")
    target = storage.as_path(dst).absolute()
    if target.exists():
        raise CheckpointError(f"{target}: exists already and is not overwritten; choose another name, or delete it")
    return target


def _functions_by_path(leaves: Tree) -> dict[str, Callable[[], np.ndarray]]:
    placeholders = jax.tree.map(lambda _: np.zeros(()), leaves)
    made = [leaf if callable(leaf) else lambda leaf=leaf: leaf for leaf in jax.tree.leaves(leaves)]
    table = dict(zip(leaves_by_path(placeholders), made, strict=True))
    if not table:
        raise ValueError("no weights: there is no leaf to save")
    return table


def _write_leaves(
    checkpoint: epath.Path, leaf_of: Mapping[str, Callable[[], np.ndarray]], fields: ManifestFields
) -> Manifest:
    shapes: dict[str, jax.ShapeDtypeStruct] = {}
    digests: dict[str, str] = {}
    for batch in _batches(leaf_of):
        shapes |= {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in batch.items()}
        for path in batch:
            digests |= table_digests({path: batch[path]})  # one by one, because each may be copied for it
        _writing(checkpoint.parent, append_leaves, checkpoint, batch)
        batch.clear()  # else this batch would live on while the next one is made
    return describe(STEP, shapes, digests, fields)


def _batches(leaf_of: Mapping[str, Callable[[], np.ndarray]]) -> Iterator[Table]:
    """Leaves in groups that are written together; the caller empties each before it asks for the next."""
    batch: Table = {}
    for path, make in leaf_of.items():
        batch[path] = _storable(path, np.asarray(make()))
        if sum(leaf.nbytes for leaf in batch.values()) >= _BATCH_BYTES:
            yield batch
            batch = {}
    if batch:
        yield batch


def _storable(path: str, leaf: np.ndarray) -> np.ndarray:
    if not (jax.numpy.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_):
        raise ValueError(f"leaf {path}: dtype {leaf.dtype}, allowed are numbers and booleans")
    return leaf


def _writing(where: epath.Path, action: Callable[..., object], *arguments: object) -> None:
    """Runs what can fail for the disk's sake, whose exceptions are of any type."""
    try:
        action(*arguments)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:400]
        raise CheckpointError(f"{where}: cannot be written: {reason}; check free space and permissions") from error


def find_weights(path: storage.PathLike) -> epath.Path:
    """The checkpoint that a path means: itself, the newest step in it, or the newest in its `checkpoints`.

    So a run's workdir, its `checkpoints`, one step of them and a directory of converted weights will all do; and
    `best` in a workdir or its `checkpoints` means the best step by the probe. Raises CheckpointMissing naming what is
    there instead.
    """
    place = storage.as_path(path)
    if storage.is_local(place):
        place = place.absolute()
    if _is_checkpoint(place):
        return place
    if place.name == BEST_NAME and not place.exists():
        return _best(place)
    for directory in (place, place / "checkpoints"):
        steps = [step for step in _steps(directory) if _is_checkpoint(directory / str(step))]
        if steps:
            return directory / str(max(steps))
    raise CheckpointMissing(f"{place}: {_found(place)}")


def _best(place: epath.Path) -> epath.Path:
    for directory in (place.parent, place.parent / "checkpoints"):
        best = read_best(directory)
        if best is not None and _is_checkpoint(directory / str(best.step)):
            return directory / str(best.step)
    raise CheckpointMissing(
        f"{place}: no step of {place.parent} is marked as the best; train with "
        "--config.checkpoint.keep_best=probe/knn, or give the workdir for the newest step"
    )


def _is_checkpoint(place: epath.Path) -> bool:
    numbered = re.fullmatch(r"0|[1-9]\d*", place.name) is not None
    return numbered and (place / MANIFEST_ITEM / MANIFEST_FILE).exists() and (place / COMMIT_FILE).exists()


def _steps(directory: epath.Path) -> list[int]:
    return list_steps(directory) if directory.is_dir() else []


def _found(place: epath.Path) -> str:
    if not place.exists():
        return "no such directory; check the path"
    if not place.is_dir():
        return (
            "a file, not a directory of checkpoints; weights of other programs are read by `surgmotion convert` first"
        )
    names = sorted(entry.name for entry in place.iterdir())
    if any(name.endswith((".safetensors", ".bin", ".pt", ".pth", "model.safetensors.index.json")) for name in names):
        return f"weights of another program ({_listed(names)}); run `surgmotion convert` on them first"
    return (
        f"no complete checkpoint here, found {_listed(names)}; "
        "give a workdir, its checkpoints, one step of them, or what `surgmotion convert` wrote"
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(names[:10]) or "nothing") + more
