"""Confidence intervals by resampling cases, the unit that is independent: never frames."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from surgmotion_jax.checks import one_of
from surgmotion_jax.evaluate.config import INTERVALS

Statistic = Callable[[np.ndarray], float]
"""From the numbers of the drawn cases, [n] int with repeats, to one value."""


class Difference(NamedTuple):
    """B minus A on the same cases, its interval, and a two-sided p value (both None for a single case)."""

    value: float
    interval: tuple[float, float] | None
    p: float | None


def interval(
    statistic: Statistic,
    cases: int,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    method: str = "bca",
    seed: int = 0,
) -> tuple[float, float] | None:
    """A `level` interval of `statistic` over `cases` cases; None where none can be had.

    `bca` corrects bias and skew (Efron, 1987) and falls back to percentiles where its acceleration is undefined. There
    is no interval for a single case, or where over a twentieth of the resamples leave the statistic undefined.
    """
    one_of("bootstrap method", method, INTERVALS)
    if cases < 2:
        return None
    values = _resampled(statistic, cases, resamples, seed)
    if values is None:
        return None
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _corrected(tails, values, statistic, cases)
    low, high = np.quantile(values, tails)
    return float(low), float(high)


def paired_difference(
    a: Statistic, b: Statistic, cases: int, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Difference:
    """Compares two checkpoints on the same cases, drawing the same cases for both.

    The p value is twice the smaller share of resampled differences on one side of 0 (the draw itself counted in, so
    that it is never 0).
    """

    def difference(rows: np.ndarray) -> float:
        return b(rows) - a(rows)

    value = difference(np.arange(cases))
    values = _resampled(difference, cases, resamples, seed) if cases >= 2 else None
    if values is None:
        return Difference(value, None, None)
    return difference_of(value, values, level)


def difference_of(value: float, values: np.ndarray, level: float) -> Difference:
    """A difference with the percentile interval and the two-sided p value of its draws, all of them finite."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    side = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return Difference(value, (float(low), float(high)), min(1.0, 2 * (side + 1) / (len(values) + 1)))


def _resampled(statistic: Statistic, cases: int, resamples: int, seed: int) -> np.ndarray | None:
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, cases, cases)) for _ in range(resamples)])
    defined = values[np.isfinite(values)]
    return defined if len(defined) >= 0.95 * resamples else None


def _corrected(tails: np.ndarray, values: np.ndarray, statistic: Statistic, cases: int) -> np.ndarray:
    """The quantiles that BCa reads instead of the given ones."""
    normal = NormalDist()
    observed = statistic(np.arange(cases))
    below = (np.count_nonzero(values < observed) + 0.5 * np.count_nonzero(values == observed)) / len(values)
    left_out = np.array([statistic(np.delete(np.arange(cases), i)) for i in range(cases)])
    spread = left_out.mean() - left_out
    scale = np.sum(spread**2) ** 1.5
    if not 0 < below < 1 or not np.isfinite(scale) or scale == 0:
        return tails
    bias, acceleration = normal.inv_cdf(below), np.sum(spread**3) / (6 * scale)
    shifted = np.array([bias + normal.inv_cdf(t) for t in tails])
    return np.array([normal.cdf(bias + z / (1 - acceleration * z)) for z in shifted])
