"""One writer to a workdir: two runs in one directory would overwrite each other's checkpoints."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

from surgmotion_jax import storage

LOCK_FILE = ".lock"

_held: set[int] = set()


class WorkdirInUse(ValueError):
    """Another live process holds the workdir; the message names it."""


@contextlib.contextmanager
def workdir_lock(workdir: storage.PathLike) -> Iterator[None]:
    """Holds `workdir/.lock` while the context is open. Call it in one process of a run only.

    The file goes when the context ends. The kernel drops the lock when the process ends, however it ends, so a file
    left behind by a crash locks nobody out. Directories that are not local, and filesystems without locks, are used
    unlocked with a note.

    Raises WorkdirInUse naming the holder's pid and host; NotWritable if the directory cannot be written.
    """
    directory = storage.ensure_writable(workdir)
    descriptor = _acquire(directory) if storage.is_local(directory) else None
    if descriptor is None:
        print(f"{directory}: no file lock here; make sure that no other run writes to it", file=sys.stderr)
    try:
        yield
    finally:
        if descriptor is not None:
            (pathlib.Path(directory) / LOCK_FILE).unlink(missing_ok=True)
            _held.discard(descriptor)
            os.close(descriptor)


def _acquire(directory: os.PathLike[str]) -> int | None:
    path = pathlib.Path(directory) / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 4096).decode(errors="replace")
        os.close(descriptor)
        raise WorkdirInUse(_in_use(directory, holder)) from None
    except OSError:  # some network filesystems have no locks
        os.close(descriptor)
        return None
    if not _still_there(path, descriptor):  # its holder ended, and deleted it, in between
        os.close(descriptor)
        return _acquire(directory)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    _held.add(descriptor)
    return descriptor


def _still_there(path: pathlib.Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _in_use(directory: os.PathLike[str], holder: str) -> str:
    try:
        owner = json.loads(holder)
        who = f"process {owner['pid']} on {owner['host']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        who = "another process that has not yet written its name"
    return f"{os.fspath(directory)}: in use by {who}; wait for it, stop it, or choose another workdir"


def _drop_inherited() -> None:
    """A forked child shares the lock and may outlive the run, so it gives its share up at once."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_inherited)
