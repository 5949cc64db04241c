"""Reads that may never answer: a file system that hangs, a pipe that nobody writes to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from surgmotion_jax.data.media import UnreadableVideo

T = TypeVar("T")

MOST_HANGING = 3
"""Files that may hang at once and be replaced by others; where more do it is the file system, and waiting is no use."""


class Stalled(ValueError):
    """Nothing can be read any more; the message says what was waited for, how long, and what to do."""


class Patience:
    """Waits for reads, each in a thread of its own, which is given up where it does not answer.

    A read that hangs in the kernel cannot be stopped. Its thread is left behind, and dies with the process.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._hanging: dict[str, Future[object]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Patience], tuple[float]]:
        return type(self), (self._limit_s,)

    def read(self, path: str, action: Callable[[], T]) -> T:
        """What `action` returns or raises. A limit of 0 waits for ever.

        Raises:
            UnreadableVideo: no answer within the limit, or none yet to a read of the same file.
            Stalled: that happened to more than a few files at once.
        """
        if not self._limit_s:
            return action()
        self._check(path)
        answer: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(answer, action), name=f"read {path}", daemon=True).start()
        try:
            return answer.result(self._limit_s)
        except TimeoutError:
            if answer.done():
                raise  # the action's own
            self._note(path, answer)
            raise self._refusal(path) from None

    def _check(self, path: str) -> None:
        with self._lock:
            self._hanging = {name: answer for name, answer in self._hanging.items() if not answer.done()}
            if path in self._hanging:
                raise self._refusal(path)

    def _note(self, path: str, answer: Future[T]) -> None:
        with self._lock:
            self._hanging[path] = answer  # type: ignore[assignment]
            names = list(self._hanging)
        if len(names) > MOST_HANGING:
            listing = "\n".join(f"  {name}" for name in names)
            raise Stalled(
                f"{len(names)} files gave no answer within {self._limit_s:g} s (data config field stalled_s) and still "
                f"hang; look at the disk or network that holds them, then repeat the command:\n{listing}"
            )

    def _refusal(self, path: str) -> UnreadableVideo:
        return UnreadableVideo(path, f"no answer within {self._limit_s:g} s: the file or its disk hangs")


def _fulfil(answer: Future[T], action: Callable[[], T]) -> None:
    try:
        answer.set_result(action())
    except BaseException as error:
        answer.set_exception(error)
