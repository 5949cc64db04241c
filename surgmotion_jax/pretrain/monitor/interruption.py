"""Ctrl-C and SIGTERM end a run cleanly: the step in flight finishes, the state is saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

_SAME_S = 1.0
"""Seconds within which a second Ctrl-C is the first one, passed on by whoever started the command."""


class Interruption:
    """Context in which the first SIGINT or SIGTERM asks for a stop; a second Ctrl-C ends the process at once.

    Several processes stop at the same step, whichever of them got the signal, by JAX's preemption service. It takes
    SIGTERM for a notice, agrees in the background on the step after the furthest process, and costs the steps nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._several = jax.process_count() > 1
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may handle signals, and whoever started another decides when it stops
        # Among several processes SIGTERM is the preemption service's, which a handler here would silence.
        for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT and time.monotonic() - self._since > _SAME_S:
            raise KeyboardInterrupt
        if self.signal is not None:
            return
        self.signal, self._since = number, time.monotonic()
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)

    def requested(self, step: int) -> bool:
        """Whether to stop at this step. Several processes must all ask at every step."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.signal is not None
