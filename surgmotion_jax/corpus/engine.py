"""What does the work of an ingestion: one function on many items, each of which leaves files behind when it is done.

Nothing is returned, and items may be done twice or at once, so that any engine can be interrupted and the work go on
with another. This one is the processes of one machine; `corpus.beam` is Apache Beam.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Protocol, TypeVar

from surgmotion_jax.data.workers import start_worker, starting_workers

T = TypeVar("T")


class Engine(Protocol):
    """Runs a function on each item, in any order and place. Function and items can be pickled."""

    def each(self, what: str, function: Callable[[T], None], items: Sequence[T]) -> None:
        """`what` is done, for progress. Raises what the function raises."""


class LocalEngine:
    """This process, or as many processes of this machine as `workers` says, which are started once.

    Leave it by a `with` block, or the processes stay until this one ends.
    """

    def __init__(self, workers: int = 0, tell: Callable[[str], None] = lambda line: None) -> None:
        self._tell = tell
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, initializer=start_worker) if workers else None

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, what: str, function: Callable[[T], None], items: Sequence[T]) -> None:
        started = time.monotonic()
        for done, _ in enumerate(self._done(function, items), 1):
            self._tell(progress(what, done, len(items), time.monotonic() - started))

    def _done(self, function: Callable[[T], None], items: Sequence[T]) -> Iterator[None]:
        if self._pool is None:
            yield from map(function, items)
            return
        with starting_workers():
            futures = [self._pool.submit(function, item) for item in items]
        for future in as_completed(futures):
            yield future.result()


def progress(what: str, done: int, total: int, seconds: float) -> str:
    """A line: how much is done, and how long the rest takes if it goes on like that."""
    left = seconds / done * (total - done)
    return f"{what} {done} of {total}, {seconds:.0f} s, {left:.0f} s left"
