"""Checks of one value, with an error that says what was found, what is allowed, and what may have been meant.

Bottom of the import order: this module imports nothing of the project.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The end of an error message, " Did you mean 'name'?", or nothing where no known name is near."""
    close = difflib.get_close_matches(got, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_of(name: str, got: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError, with a suggestion, unless `got` is one of `allowed`."""
    if got not in allowed:
        hint = did_you_mean(str(got), allowed)
        raise ValueError(f"{name} is {got!r}; it must be one of {', '.join(allowed)}.{hint}")


def at_least(name: str, got: float, least: float) -> None:
    """Raises ValueError unless `got >= least`."""
    if not got >= least:
        raise ValueError(f"{name} is {got}; it must be at least {least}.")


def between(name: str, got: float, low: float, high: float) -> None:
    """Raises ValueError unless `low <= got <= high`."""
    if not low <= got <= high:
        raise ValueError(f"{name} is {got}; it must lie in {low}..{high}.")
