"""What a person sees while training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

BAR = 20


def duration(seconds: float) -> str:
    """'45 s', '3 min 20 s', '2 h 05 min', '1 d 4 h'."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d} min"
    return f"{s // 86400} d {s % 86400 // 3600} h"


class Progress:
    """Writes to `stream` if `enabled` (process 0); a terminal gets one line that is redrawn."""

    def __init__(self, stream: TextIO, first_step: int, last_step: int, enabled: bool = True) -> None:
        self._stream, self._enabled = stream, enabled
        self._first, self._last = first_step, last_step
        self._bar = enabled and stream.isatty()
        self._started = time.monotonic()
        self._open = False

    def update(self, step: int, text: str) -> None:
        """Reports a finished step."""
        if not self._enabled:
            return
        done = max(step - self._first, 1)
        left = (self._last - step) * (time.monotonic() - self._started) / done
        line = f"step {step}/{self._last}  {text}  ETA {duration(left)}"
        if self._bar:
            filled = BAR * step // max(self._last, 1)
            self._stream.write(f"\r\033[K[{'#' * filled}{'.' * (BAR - filled)}] {line}")
            self._stream.flush()
            self._open = True
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self._enabled:
            return
        self._stream.write(("\n" if self._open else "") + text + "\n")
        self._stream.flush()
        self._open = False
