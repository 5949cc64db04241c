"""Says what is waited for, where that takes longer than a person expects."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

SLOW_S = 60.0


@contextlib.contextmanager
def told_while_waiting(what: str, say: Callable[[str], None], every_s: float = SLOW_S) -> Iterator[None]:
    """While the context is open, `say` is told every `every_s` seconds what is waited for and since when."""
    done, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(every_s):
            say(f"waiting for {what} since {time.monotonic() - began:.0f} s; its disk may hang")

    watcher = threading.Thread(target=watch, name="slow", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
