"""When one process of a run ends, all end, soon and with the reason. A collective would otherwise wait for ever.

Every process shows a counter that moves. A process that fails posts why; process 0 posts for those whose counter stands
still; all the others read the post, say it and exit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import jax

from surgmotion_jax.parallel.agreement import name_of
from surgmotion_jax.parallel.coordination import Board

FAILURE = "failure"
DONE = b"done"


class Watch:
    """A thread that shows this process alive and looks for the failure of others.

    `stop(reason)` is called, in the thread, when another process has failed or is lost; it is expected to end the
    process. Close the watch before the interpreter ends.
    """

    def __init__(
        self, board: Board, process: int, processes: int, lost_after_s: float, stop: Callable[[str], None]
    ) -> None:
        self._board, self._process, self._processes = board, process, processes
        self._lost_after_s, self._stop = lost_after_s, stop
        self._period_s = min(1.0, lost_after_s / 10)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._seen: dict[int, tuple[bytes | None, float]] = {}

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the watch of a process that has done its work."""
        self._closing.set()
        self._thread.join()
        self._put(f"beat/{self._process}", DONE)

    def post_failure(self, reason: str) -> str:
        """Tells all processes why this one ends; returns the reason that stands, which may be another's."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._put(FAILURE, f"{name_of(self._board, self._process)}: {reason}".encode(), replace=False)
        standing = (self._board.look(FAILURE) or b"").decode()
        self.acknowledge()
        return standing

    def acknowledge(self) -> None:
        """Notes that this process has read the failure. Process 0, which holds the board, waits for the others."""
        self._put(f"heard/{self._process}", DONE)
        limit = time.monotonic() + 5 * self._period_s
        missing = set(range(1, self._processes)) if self._process == 0 else set()
        while missing and time.monotonic() < limit:
            missing = {i for i in missing if self._board.look(f"heard/{i}") is None}
            time.sleep(0.05)

    def _run(self) -> None:
        count, woken = 0, time.monotonic()
        while not self._closing.wait(self._period_s):
            count += 1
            try:
                self._put(f"beat/{self._process}", str(count).encode())
                failure = self._board.look(FAILURE)
                if failure is None and self._process == 0:
                    failure = self._judge(woken)
                woken = time.monotonic()
            except jax.errors.JaxRuntimeError as error:
                failure = f"process 0, which coordinates the others, cannot be reached: {error}".encode()
            if failure is not None and not self._closing.is_set():
                self._stop(failure.decode())
                return

    def _judge(self, woken: float) -> bytes | None:
        """Process 0: posts those whose counter has stood still for too long."""
        now = time.monotonic()
        if now - woken > self._lost_after_s / 2:
            self._seen.clear()  # it was this process that slept, so it knows nothing of the others
        lost = []
        for i in range(1, self._processes):
            beat = self._board.look(f"beat/{i}")
            if i not in self._seen or self._seen[i][0] != beat or beat == DONE:
                self._seen[i] = beat, now
            elif now - self._seen[i][1] > self._lost_after_s:
                lost.append(name_of(self._board, i))
        if not lost:
            return None
        text = f"{', '.join(lost)}: no sign of life for {self._lost_after_s:g} s; killed, crashed or cut off"
        self._put(FAILURE, text.encode(), replace=False)
        return self._board.look(FAILURE)

    def _put(self, key: str, value: bytes, replace: bool = True) -> None:
        self._board.put(key, value, replace)
