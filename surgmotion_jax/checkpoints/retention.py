"""Which step directories exist, and which go.

A checkpoint is the directory `<step>`, complete once it holds the commit file. Anything else beside it (an
interrupted save, a copy under another name, a user's own folder) is never taken for one, and nothing is
deleted unless its manifest says that it is a checkpoint of the step in its name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection

from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.best import forget_best
from surgmotion_jax.checkpoints.manifest import Manifest

STATE_ITEM = "state"
MANIFEST_ITEM = "manifest"
MANIFEST_FILE = "data.json"
COMMIT_FILE = "commit_success.txt"

_LEFTOVER = re.compile(r"(\d+)\.(orbax-checkpoint-tmp|deleting|replaced).*")


def list_steps(directory: epath.Path) -> list[int]:
    """Steps with a directory, ascending. Locally a save is renamed into place when complete, so a numbered
    directory without its commit file is a damaged one, listed so that a restore reports it; in an object
    store it is a save still under way or cut short, and left out.
    """
    if not directory.exists():
        return []
    local = storage.is_local(directory)
    entries = [entry for entry in directory.iterdir() if re.fullmatch(r"0|[1-9]\d*", entry.name) and entry.is_dir()]
    return sorted(int(entry.name) for entry in entries if local or (entry / COMMIT_FILE).exists())


def read_manifest(checkpoint: epath.Path) -> Manifest:
    """The manifest of one step directory. Raises ValueError or OSError if it is damaged or missing."""
    path = checkpoint / MANIFEST_ITEM / MANIFEST_FILE
    return Manifest.from_dict(storage.read_json(path), str(path))


def is_ours(entry: epath.Path, step: int) -> bool:
    """Whether a directory is proved, by an intact manifest of that step, to be a checkpoint of ours."""
    try:
        return read_manifest(entry).step == step
    except (OSError, ValueError):
        return False


def prune(directory: epath.Path, keep: int, keep_every: int, damaged: Collection[int], best: int | None = None) -> None:
    """Deletes what retention does not want: keeps the newest `keep` sound steps, each multiple of `keep_every` and
    the step `best`.

    Damaged steps count for nothing and stay for a person to look at. Leftovers of interrupted saves and
    deletions go too. Call it only while no save is under way.
    """
    sound = [step for step in list_steps(directory) if step not in damaged]
    for step in sound[:-keep]:
        wanted = step == best or (keep_every and step % keep_every == 0)
        if not wanted and is_ours(directory / str(step), step):
            _delete(directory / str(step))
    for entry in directory.iterdir():
        match = _LEFTOVER.fullmatch(entry.name)
        if match and is_ours(entry, int(match[1])):
            _delete(entry)


def discard_after(directory: epath.Path, step: int) -> None:
    """Deletes every checkpoint of a later step that is proved ours, having forgotten a best one among them."""
    forget_best(directory, after=step)
    for later in list_steps(directory):
        if later > step and is_ours(directory / str(later), later):
            _delete(directory / str(later))


def discard_temporaries(directory: epath.Path, step: int) -> None:
    """Frees the space of a save that this process began and that failed."""
    for entry in directory.glob(f"{step}.orbax-checkpoint-tmp*"):
        entry.rmtree()


def set_aside(directory: epath.Path, step: int, sound: bool) -> epath.Path:
    """Moves a step out of the way of a new save of the same step; returns where it went.

    A sound one is deleted by the next `prune`, once its successor is complete; a damaged one stays.
    """
    suffix = "replaced" if sound else "damaged"
    target = directory / f"{step}.{suffix}-{time.time_ns()}"
    return (directory / str(step)).rename(target)


def put_back(directory: epath.Path, step: int) -> None:
    """Undoes `set_aside` of a sound step whose successor could not be saved."""
    replaced = sorted(directory.glob(f"{step}.replaced-*"), key=lambda entry: entry.name)
    if replaced and not (directory / str(step)).exists():
        replaced[-1].rename(directory / str(step))


def _delete(entry: epath.Path) -> None:
    """Deletes a directory proved ours. Renamed first, so that a crash midway leaves no half checkpoint under
    a step's name; arrays first, so that the manifest still proves it ours to the next `prune`.
    """
    if entry.name.isdigit():
        entry = entry.rename(entry.parent / f"{entry.name}.deleting-{time.time_ns()}")
    if (entry / STATE_ITEM).exists():
        (entry / STATE_ITEM).rmtree()
    entry.rmtree()
