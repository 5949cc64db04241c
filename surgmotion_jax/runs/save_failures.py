"""What a run says of saves that failed: a line where it goes on, the traces in a file, the reason where it ends."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator

import jax
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.pretrain.state import TrainState

TRACES_FILE = "save_failures.log"


class TracesToFile(logging.Filter):
    """Passes over what Orbax logs with a trace, some 200 lines for one full disk, and appends it to a file."""

    def __init__(self, file: epath.Path) -> None:
        super().__init__()
        self.file = file

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info or "orbax" not in record.pathname:
            return True
        text = logging.Formatter("%(asctime)s %(message)s").format(record)
        # Where the disk is full there is no room for the traces either; and an error here would be taken for Orbax's.
        with contextlib.suppress(Exception), self.file.open("a") as file:
            file.write(f"{text}\n")
        return False


@contextlib.contextmanager
def traces_in_file(workdir: epath.Path) -> Iterator[None]:
    """While the context is open the traces of failed saves go to `save_failures.log` instead of the terminal."""
    logger, traces = logging.getLogger("absl"), TracesToFile(workdir / TRACES_FILE)  # Orbax logs through absl
    logger.addFilter(traces)
    try:
        yield
    finally:
        logger.removeFilter(traces)


def unsaved_reason(store: CheckpointStore, step: int, abstract: TrainState) -> str:
    """Why the state of a step is not on disk, what is, and what to do; empty where it is."""
    failure = store.failure
    failed = failure is not None and failure.step == step
    steps = store.steps()
    if step in steps and not failed:
        return ""
    why = f" ({failure.reason})" if failure is not None and failed else ""
    older = [one for one in steps if one != step]
    newest = f"the newest checkpoint is that of step {max(older)}" if older else "there is no checkpoint"
    return (
        f"the state of step {step} was not saved{why}; {newest}. {room(store.directory, abstract)} Then repeat the "
        f"command, which goes on from there; traces are in {store.directory.parent / TRACES_FILE}."
    )


def room(directory: epath.Path, abstract: TrainState) -> str:
    """What a checkpoint takes and what is free, where that can be told."""
    needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract))
    if not storage.is_local(directory):
        return f"A checkpoint takes about {size(needed)}: see that there is room for it, and that it may be written."
    free = shutil.disk_usage(next(parent for parent in (directory, *directory.parents) if parent.exists())).free
    return f"A checkpoint takes about {size(needed)}, and {size(free)} are free: make room, or let it be written."


def size(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
