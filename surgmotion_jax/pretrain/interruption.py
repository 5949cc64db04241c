"""Ctrl-C and SIGTERM end a run cleanly: the step in flight finishes, the state is saved."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Context in which the first SIGINT or SIGTERM only sets a flag; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def requested(self, step: int, agree_every: int) -> bool:
        """Whether to stop at this step; several processes agree on it every `agree_every` steps."""
        if jax.process_count() == 1:
            return self.signal is not None
        if step % agree_every:
            return False
        flags = multihost_utils.process_allgather(jax.numpy.asarray(self.signal is not None))
        return bool(flags.any())
