"""Refuses numbers that are not finite where weights enter: later they only show as heads that diverge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def check_finite(where: str, name: str, array: np.ndarray) -> None:
    """Raises ValueError naming the tensor, and how many of its values are NaN or infinite."""
    if not np.issubdtype(array.dtype, np.inexact) and array.dtype.name != "bfloat16":
        return
    finite = np.isfinite(array)
    if not finite.all():
        wrong, first = int(finite.size - finite.sum()), np.asarray(array).reshape(-1)[int(finite.argmin())]
        raise ValueError(
            f"{where}: {name} has {wrong} of {finite.size} values that are not finite, the first {float(first)}; a run "
            "that diverged or a damaged copy: take an earlier checkpoint, or fetch the file again."
        )


def check_all_finite(where: str, leaves: Mapping[str, np.ndarray]) -> None:
    """`check_finite` of every tensor, by its name."""
    for name, leaf in leaves.items():
        check_finite(where, name, leaf)
