"""Encoders of several arms against the strength of nuisance: scores between two anchors, and whether a gap grows.

A score is 0 for random weights and 100 for training end to end, on the same task at the same strength. Letters: S seeds
of an arm, G strengths, K tasks, B draws of operations and seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.comparison import holm
from surgmotion_jax.evaluate.compare.seeds import Column
from surgmotion_jax.evaluate.metrics.bootstrap import Difference, difference_of
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.task import Measure, Ratio

Place = tuple[str, str, float]  # arm, task, strength


@dataclass(frozen=True)
class ByOperation:
    """A measure of one evaluation that is a mean over cases, weighed or not: enough for intervals over operations."""

    sign: int  # 1 where more is better, else -1
    sums: Mapping[str, tuple[float, float]]  # by operation: the sum over its cases, and what it is divided by


@dataclass(frozen=True, eq=False)
class Measured:
    """One arm on one task at one strength. Letter: U operations, which are drawn."""

    operations: tuple[str, ...]
    sum_SxU: np.ndarray
    count_SxU: np.ndarray
    sign: int

    @property
    def seeds(self) -> int:
        return self.sum_SxU.shape[0]

    def value(self) -> float:
        """The mean over seeds and all cases; more is better."""
        return self.drawn(np.arange(len(self.operations)), np.arange(self.seeds))

    def drawn(self, operations: np.ndarray, seeds: np.ndarray) -> float:
        """The mean of some seeds over the cases of the operations drawn; NaN where none of them counts."""
        chosen = np.ix_(seeds, operations)
        count_S = self.count_SxU[chosen].sum(1)
        return self.sign * float((self.sum_SxU[chosen].sum(1) / np.where(count_S > 0, count_S, np.nan)).mean())


@dataclass(frozen=True, eq=False)
class Curve:
    """An arm's score against strength, its mean over tasks; NaN at a strength that was not reached."""

    arm: str
    score_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray
    score_KxG: np.ndarray  # of each task, and its interval
    low_KxG: np.ndarray
    high_KxG: np.ndarray
    seeds: int  # the fewest behind a point


@dataclass(frozen=True)
class Against:
    """An arm's difference to another, over the strengths that both have, with its p value as Holm corrects it."""

    arm: str
    difference: Difference
    holm: float | None


@dataclass(frozen=True)
class Scores:
    """All that is to be said of the arms that were measured."""

    tasks: tuple[str, ...]
    strengths: tuple[float, ...]
    curves: tuple[Curve, ...]
    against: tuple[Against, ...]  # the first of the compared arms
    growth: Difference | None  # of the first arm's lead over the second with a unit of strength; None: not measurable
    without: tuple[str, ...] = ()  # tasks left out of means: somewhere end to end is not above random weights


def by_operation(column: Column, metric: str, operation: str = "") -> ByOperation:
    """One of the measures of an evaluation.

    Cases whose names begin alike, as far as the regular expression `operation` matches, are of one operation; without
    it each is its own. Raises ValueError where there is no measure of that name, and where it is no mean over cases.
    """
    task = task_of_results(column.fields)
    first = task.measures([column.runs[0].tables[case] for case in column.cases])
    named = [m for m in first if m.name == metric]
    if not named:
        raise ValueError(f"{column.name}: has no {metric}; there are {', '.join(dict.fromkeys(m.name for m in first))}")
    chosen = next((m for m in named if (m.name, m.convention) == task.choice), named[0])
    ratio = chosen.statistic
    if not isinstance(ratio, Ratio) or ratio.transform is not float:
        raise ValueError(
            f"{column.name}: {metric} is no mean over cases, of which alone a study can draw intervals; name another "
            f"measure, as {_means(first)}"
        )
    sums: dict[str, tuple[float, float]] = {}
    for case, total, count in zip(column.cases, ratio.total_V, ratio.count_V, strict=True):
        name = case if not operation else _begin(case, operation)
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + float(total), before[1] + float(count))
    return ByOperation(1 if chosen.higher else -1, sums)


def _begin(case: str, operation: str) -> str:
    """As much of a case's name as an expression matches. Raises ValueError where that is nothing."""
    found = re.match(operation, case)
    if not found or not found[0]:
        raise ValueError(
            f"operation={operation!r} matches nothing of the case {case!r}; it must match the beginning of each name, "
            "as far as cases of one operation have it in common"
        )
    return found[0]


def _means(measures: Sequence[Measure]) -> str:
    """Names of those that are means over cases."""
    named = dict.fromkeys(m.name for m in measures if isinstance(m.statistic, Ratio) and m.statistic.transform is float)
    return ", ".join(named) or "those of masks, depth and clips"


def measured(seeds: Sequence[ByOperation]) -> Measured:
    """The evaluations of an arm with several seeds. Raises ValueError where they are not of the same operations."""
    for one in seeds[1:]:
        _check_same("seeds", seeds[0].sums, one.sums)
    names = tuple(sorted(seeds[0].sums))
    table_SxUx2 = np.array([[one.sums[name] for name in names] for one in seeds])
    return Measured(names, table_SxUx2[..., 0], table_SxUx2[..., 1], seeds[0].sign)


def _check_same(what: str, one: Iterable[str], other: Iterable[str]) -> None:
    """Raises ValueError where two were tested on different operations."""
    alone = sorted(set(one) ^ set(other))
    if alone:
        raise ValueError(f"{what} were tested on different operations; not in both are {', '.join(alone[:5])}")


def scores(
    found: Mapping[Place, Measured], compared: tuple[str, str], *, resamples: int = 400, level: float = 0.95
) -> Scores:
    """Curves of all arms, differences to the first of the compared arms, and how its lead over the second grows.

    Each draw takes operations of every task, the same for all arms and strengths, and seeds, the same for all arms that
    have as many. The anchors' distance is that of all cases, so that no draw divides by a small number. Without both
    anchors there is no score.
    """
    tasks = tuple(dict.fromkeys(task for _, task, _ in found))
    _check_alike(found)
    strengths = tuple(sorted({strength for _, _, strength in found}))
    names = list(dict.fromkeys(arm for arm, _, _ in found))
    value, drawn = {}, {}
    for arm in names:
        value[arm], drawn[arm] = _tables([[found.get((arm, t, g)) for g in strengths] for t in tasks], resamples)
    if not {RANDOM, TUNED} <= set(names):
        return Scores(tasks, strengths, (), (), None)
    arms = [arm for arm in names if arm not in (RANDOM, TUNED)]
    distance_KxG = value[TUNED] - value[RANDOM]
    apart_K = ~(distance_KxG <= 0).any(1)
    distance_KxG = np.where(distance_KxG > 0, distance_KxG, np.nan)
    score = {arm: 100 * (value[arm] - value[RANDOM]) / distance_KxG for arm in arms}
    score_of_draws = {arm: 100 * (drawn[arm] - drawn[RANDOM]) / distance_KxG for arm in arms}
    mean_G = {arm: _mean(score[arm][apart_K]) for arm in arms}
    mean_BxG = {arm: _mean(score_of_draws[arm][:, apart_K]) for arm in arms}
    tails = ((1 - level) / 2, (1 + level) / 2)
    curves = []
    for arm in arms:
        low_G, high_G = np.quantile(mean_BxG[arm], tails, axis=0)
        low_KxG, high_KxG = np.quantile(score_of_draws[arm], tails, axis=0)
        seeds = min(one.seeds for (name, _, _), one in found.items() if name == arm)
        curves.append(Curve(arm, mean_G[arm], low_G, high_G, score[arm], low_KxG, high_KxG, seeds))
    first, second = compared
    others = [arm for arm in arms if arm != first] if first in arms else []
    gaps = {arm: (mean_G[arm] - mean_G[first], mean_BxG[arm] - mean_BxG[first]) for arm in others}
    against = [_of_draws(_over(gap_G), _over(gap_BxG), level) for gap_G, gap_BxG in gaps.values()]
    rows = tuple(map(Against, gaps, against, holm([difference.p for difference in against])))
    growth = None
    if second in gaps and np.isfinite(gaps[second][0]).sum() > 1:
        behind_G, behind_BxG = gaps[second]
        growth = _of_draws(_slope(strengths, -behind_G), _slope(strengths, -behind_BxG), level)
    without = tuple(task for task, apart in zip(tasks, apart_K, strict=True) if not apart)
    return Scores(tasks, strengths, tuple(curves), rows, growth, without)


def _check_alike(found: Mapping[Place, Measured]) -> None:
    """Raises ValueError where a task was not tested on the same operations everywhere, so that draws do not pair."""
    first: dict[str, Measured] = {}
    for (_, task, _), one in found.items():
        _check_same(f"arms and strengths of {task}", first.setdefault(task, one).operations, one.operations)


def _mean(score_KxG: np.ndarray) -> np.ndarray:
    """Over the tasks, the last axis but one; NaN where there is none."""
    return score_KxG.sum(-2) / (score_KxG.shape[-2] or np.nan)


def _tables(one_KxG: Sequence[Sequence[Measured | None]], resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Values [K, G] over all cases and seeds, and [B, K, G] over those of each draw; NaN where nothing was measured."""
    shape = (len(one_KxG), len(one_KxG[0]))
    value, drawn = np.full(shape, np.nan), np.full((resamples, *shape), np.nan)
    for k, row in enumerate(one_KxG):
        for g, one in enumerate(row):
            if one is not None:
                value[k, g] = one.value()
                drawn[:, k, g] = [one.drawn(*_draw(number, k, one)) for number in range(resamples)]
    return value, drawn


def _draw(number: int, task: int, one: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Operations and seeds of a draw: those of a task do not depend on arm and strength."""
    count = len(one.operations)
    drawn = np.random.default_rng([number, 0, task]).integers(0, count, count)
    return drawn, np.random.default_rng([number, 1, one.seeds]).integers(0, one.seeds, one.seeds)


def _over(gap: np.ndarray) -> np.ndarray:
    """The mean over the strengths, the last axis, at which there is a gap."""
    known = np.isfinite(gap)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, gap, 0).sum(-1) / np.maximum(count, 1), np.nan)


def _slope(strengths: Sequence[float], gap: np.ndarray) -> np.ndarray:
    """The least-squares slope of a gap over the strengths, the last axis, at which there is one."""
    known = np.isfinite(gap).reshape(-1, len(strengths)).all(0)
    x_G = np.array(strengths)[known]
    centred_G = x_G - x_G.mean()
    return np.asarray((gap[..., known] * centred_G).sum(-1) / (centred_G**2).sum())


def _of_draws(value: np.ndarray, drawn_B: np.ndarray, level: float) -> Difference:
    """A value with the interval and p value of its draws; without them where more than a twentieth are undefined."""
    known_B = drawn_B[np.isfinite(drawn_B)]
    if len(known_B) < 0.95 * len(drawn_B) or not len(known_B):
        return Difference(float(value), None, None)
    return difference_of(float(value), known_B, level)
