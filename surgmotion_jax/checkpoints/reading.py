"""What goes wrong when damaged files are read, told in one line instead of thousands."""

from __future__ import annotations

import functools
import inspect
import sys


@functools.cache  # once a process
def keep_abandoned_reads_quiet() -> None:
    """When one read fails Orbax abandons the others, and Python prints an exception for each as it ends:
    thousands of lines that would bury our one sentence. All other reports go on as before.
    """
    hook = sys.unraisablehook

    def pass_on(entry: sys.UnraisableHookArgs) -> None:
        if not inspect.iscoroutine(entry.object) and str(entry.exc_value) != "Event loop is closed":
            hook(entry)

    sys.unraisablehook = pass_on


def first_line(error: BaseException) -> str:
    """One line about the innermost cause: Orbax wraps a damaged file in guesses about handlers."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    line = (str(error).strip() or "no message").splitlines()[0]
    return f"{line[:400]} ({type(error).__name__})"
