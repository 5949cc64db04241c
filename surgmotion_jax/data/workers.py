"""Processes that work for this one: how they start, and how those that stopped are found, named and killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory
from multiprocessing.process import BaseProcess
from pathlib import Path

_PR_SET_PDEATHSIG = 1

_SHARED = "/dev/shm"
"""Where Linux shows shared memory."""

STATES = {"R": "running", "S": "sleeping", "D": "waiting for a disk", "T": "stopped", "Z": "dead"}


class WorkersLost(ValueError):
    """Decoding processes ended, or gave nothing for so long that they were killed; the message says which."""


class WorkerWatch:
    """Kills the decoding processes that `limit_s` seconds of waiting brought nothing from; 0 waits for ever.

    Nothing gentler wakes one that is stopped, or that waits for a disk, and whoever waits for it is told of its end.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._killed = ""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The context in which a batch is waited for. Raises WorkersLost where the processes behind it ended."""
        timer = threading.Timer(self._limit_s, self._kill)
        timer.daemon = True
        if self._limit_s:
            timer.start()
        try:
            yield
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):  # grain's words
                raise
            raise WorkersLost(self._killed or f"a decoding process ended: {error}") from error
        finally:
            timer.cancel()

    def _kill(self) -> None:
        workers = decoding_processes()
        listing = ", ".join(f"{worker.pid} ({state_of(worker.pid)})" for worker in workers)
        self._killed = f"no batch for {self._limit_s:g} s; killed the decoding processes {listing}"
        for worker in workers:
            worker.kill()


def decoding_processes() -> list[BaseProcess]:
    """The processes that grain started from this one."""
    return [child for child in multiprocessing.active_children() if child.name.startswith("grain")]


def state_of(pid: int | None) -> str:
    """What Linux says that a process does; nothing is known elsewhere."""
    try:
        letter = Path(f"/proc/{pid or os.getpid()}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return "state unknown"
    return STATES.get(letter, letter)


@contextmanager
def shared_names() -> Iterator[str]:
    """A beginning of names for shared memory; whatever has such a name when the context ends is given back.

    grain loses arrays that were decoded ahead when it is closed, and Python would complain of them at its end.
    """
    tag = secrets.token_hex(3)
    try:
        yield tag
    finally:
        left = [name for name in os.listdir(_SHARED) if name.startswith(tag)] if os.path.isdir(_SHARED) else []
        for name in left:
            with suppress(FileNotFoundError):
                segment = shared_memory.SharedMemory(name)
                segment.close()
                segment.unlink()


@contextmanager
def starting_workers() -> Iterator[None]:
    """The context in which processes are started that leave Ctrl-C to this one, from their first moment on.

    They inherit that it is ignored. Only the main thread can see to that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_worker(shared: str = "") -> None:
    """Leaves Ctrl-C, which a terminal sends to every process of a command, to the parent, which ends its workers.

    Names of shared memory begin with `shared`.
    """
    if shared:
        shared_memory._SHM_NAME_PREFIX = f"/{shared}"  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()


def _die_with_parent() -> None:
    """Asks Linux to kill this worker when its parent dies, however it dies. Elsewhere nothing is done."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = multiprocessing.parent_process()
    # The parent may have died before the request was made.
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)
