"""Where a recording is cut, and which stretches of it are no surgery: from what was measured on its pictures.

Letters: N pictures of a recording in order, at `rate` pictures a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from surgmotion_jax.corpus.config import Thresholds
from surgmotion_jax.corpus.observe import Observed, changes, colours, inside, luma, palettes, tissue

_FADED = 0.35
"""A fade goes down to this part of the level on both of its sides."""

_FADE_S = 2.0
"""Seconds within which a fade has both of its sides."""


class Run(NamedTuple):
    """Pictures from `start` to before `stop`, and what they are."""

    start: int
    stop: int
    reason: str


def runs(flag_N: np.ndarray, least: int = 1) -> Iterator[tuple[int, int]]:
    """Starts and stops of the runs of True that are at least so long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flag_N, [False]]).astype(np.int8)))
    yield from ((int(start), int(stop)) for start, stop in edges.reshape(-1, 2) if stop - start >= least)


def hard_cuts(palette_NxC: np.ndarray, least: float) -> np.ndarray:
    """Whether a shot begins at each picture, bool [N]: its colours changed, and far more than around it.

    A camera that moves changes the colours picture by picture, and makes no cut.
    """
    change_N = np.zeros(len(palette_NxC), np.float32)
    change_N[1:] = np.abs(np.diff(palette_NxC, axis=0)).sum(1) / 2
    padded = np.pad(change_N, 2)
    around_N = np.median([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]], axis=0)
    return (change_N >= least) & (change_N >= 2 * around_N)


def fades(level_N: np.ndarray, rate: float) -> np.ndarray:
    """Whether a shot begins at each picture because the one before faded out and it fades in, bool [N]."""
    cut_N = np.zeros(len(level_N), bool)
    reach = max(1, round(_FADE_S * rate))
    for n in range(1, len(level_N) - 1):
        before, after = level_N[max(0, n - reach) : n], level_N[n + 1 : n + 1 + reach]
        sides = min(before.max(), after.max())
        cut_N[n] = level_N[n] < _FADED * sides and level_N[n] <= before[-1] and level_N[n] < after[0]
    return cut_N


def black(level_N: np.ndarray, most: float) -> np.ndarray:
    """Pictures of which nothing is to be seen, bool [N]."""
    return level_N < most


def still(change_N: np.ndarray, most: float, least: int) -> np.ndarray:
    """Pictures of stretches of at least so many in which nothing moves, with the first of them, bool [N]."""
    still_N = np.zeros(len(change_N), bool)
    for start, stop in runs(change_N < most, least):
        still_N[start - 1 : stop] = True
    return still_N


def lasting(flag_N: np.ndarray, least: int) -> np.ndarray:
    """The flags without those of runs shorter than `least`, bool [N]."""
    kept_N = np.zeros(len(flag_N), bool)
    for start, stop in runs(flag_N, least):
        kept_N[start:stop] = True
    return kept_N


def bridged(flag_N: np.ndarray, most: int) -> np.ndarray:
    """The flags with gaps of up to `most` pictures between two runs filled, bool [N]."""
    return ~(lasting(~flag_N, most + 1) | _outer(~flag_N))


def _outer(flag_N: np.ndarray) -> np.ndarray:
    """The runs of True at the beginning and the end."""
    kept_N = np.zeros(len(flag_N), bool)
    for start, stop in runs(flag_N):
        if start == 0 or stop == len(flag_N):
            kept_N[start:stop] = True
    return kept_N


def no_surgery(observed: Observed, rate: float, thresholds: Thresholds, keep_outside: bool = False) -> list[Run]:
    """The stretches of a recording that are left out, in order, each with the first reason that applies."""
    seen = inside(observed.small_NxSxSx3, observed.view)
    change_N, level_N = changes(seen), luma(seen).mean((1, 2))

    def pictures(seconds: float) -> int:
        return max(1, round(seconds * rate))

    sharp = thresholds.blurred * float(np.median(observed.sharpness_N))
    frozen_N = still(change_N, thresholds.frozen, pictures(thresholds.frozen_s))
    found = {
        "black": black(level_N, thresholds.black),
        "title card or test picture": frozen_N & (colours(seen) <= thresholds.colours),
        "frozen": frozen_N,
        "out of focus": lasting(observed.sharpness_N < sharp, pictures(thresholds.blurred_s)),
    }
    if not keep_outside:
        outside_N = bridged(tissue(seen) < thresholds.tissue, pictures(thresholds.outside_s))
        found["outside the body"] = lasting(outside_N, pictures(thresholds.outside_s))
    return list(_first_reasons(found))


def shots(observed: Observed, rate: float, thresholds: Thresholds) -> list[int]:
    """The pictures at which a shot begins, after the first."""
    seen = inside(observed.small_NxSxSx3, observed.view)
    if len(seen) < 3:
        return []
    cut_N = hard_cuts(palettes(seen), thresholds.cut) | fades(luma(seen).mean((1, 2)), rate)
    return np.flatnonzero(cut_N).tolist()


def outside_of(left_out: Sequence[Run], length: int) -> np.ndarray:
    """Which of `length` pictures lie in none of the runs, bool [N]."""
    flag_N = np.ones(length, bool)
    for run in left_out:
        flag_N[run.start : run.stop] = False
    return flag_N


def kept(
    length: int, left_out: Sequence[Run], cuts: Sequence[int], least: int
) -> tuple[list[tuple[int, int]], list[Run]]:
    """What remains of `length` pictures between runs and cuts, and the runs that are too short to remain."""
    remaining, short = [], []
    for start, stop in runs(outside_of(left_out, length)):
        edges = [start, *(cut for cut in cuts if start < cut < stop), stop]
        for piece in pairwise(edges):
            if piece[1] - piece[0] >= least:
                remaining.append(piece)
            else:
                short.append(Run(*piece, "too short"))
    return remaining, short


def _first_reasons(found: dict[str, np.ndarray]) -> Iterator[Run]:
    """Runs of one reason each, in order of time."""
    reasons = list(found)
    which_N = np.argmax(np.stack([*found.values(), np.ones_like(found[reasons[0]])]), axis=0)
    edges = np.flatnonzero(np.diff(which_N, prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        if which_N[start] < len(reasons):
            yield Run(int(start), int(stop), reasons[which_N[start]])
