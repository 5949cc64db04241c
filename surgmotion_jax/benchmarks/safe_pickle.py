"""Annotations that come as pickles: read as plain data, never run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.inert_pickle import PickleRefused, read_pickle

MAX_BYTES = 256 * 2**20
ASKS = "a pickle of dicts, lists, strings and numbers, and nothing else"
FIX = "do not load this file elsewhere either; restore it from its publisher"


class _NumberKind:
    """A numpy dtype in a pickle: the name of a plain number, and a byte order."""

    def __init__(self, name: object = None, *_: object) -> None:
        if not (isinstance(name, str) and name[:1] in "biuf" and name[1:].isdigit()):
            raise PickleRefused(f"the numpy dtype {name!r}, which is not of a number")
        self.dtype = np.dtype(name)

    def set_state(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        if order == ">":
            self.dtype = self.dtype.newbyteorder(">")
        elif order not in ("<", "|", "="):
            raise PickleRefused(f"the byte order {order!r}")


def _number(kind: object = None, data: object = None) -> int | float | bool:
    """What numpy's own `scalar` makes, as a Python number."""
    if isinstance(data, str):  # bytes as protocols 0 to 2 spell them
        data = data.encode("latin-1")
    if not isinstance(kind, _NumberKind) or not isinstance(data, bytes) or len(data) != kind.dtype.itemsize:
        raise PickleRefused("a numpy scalar that is not a number")
    return np.frombuffer(data, kind.dtype)[0].item()


def _text(text: object = None, encoding: object = None) -> str:
    """`_codecs.encode`, which the older protocols call on the bytes of a number."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleRefused(f"text in the encoding {encoding!r}")
    return text


_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _NumberKind,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "_codecs.encode": _text,
}


def load_plain(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The data in a pickle file.

    Returns:
        Nested dicts, lists, tuples, strings, bytes, numbers, None; numpy scalars as Python numbers.

    Raises:
        BenchmarkError: missing file, more than `max_bytes`, not a pickle, or one that does anything but hold data.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BenchmarkError(path, f"{size} bytes", f"at most {max_bytes}", "check what this file is")
        data = path.read_bytes()
    except FileNotFoundError:
        raise BenchmarkError(path, "no such file", ASKS, "put it there") from None
    try:
        return read_pickle(data, _CALLS)
    except PickleRefused as error:
        raise BenchmarkError(path, str(error), ASKS, FIX) from None
