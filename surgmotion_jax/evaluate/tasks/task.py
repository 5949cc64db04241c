"""What a task family is.

A head's predictions become a table a case, with a row for each scored moment; every number is computed from these
tables alone. They are what `predictions.csv` holds, so results can be recomputed, and two runs compared, from files.

Letters: B rows of a batch, N moments of a case, V cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import numpy as np

from surgmotion_jax.evaluate.config import ReportConfig
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic, interval
from surgmotion_jax.records import Result

Table = dict[str, np.ndarray]
"""Columns of a case, [N] each."""

Truth = dict[str, np.ndarray]
"""What is known of B moments: `label`, `mask` (what of it counts), and what else a family needs; batch axis first."""


@dataclass(frozen=True)
class Measure:
    """One number of an evaluation as a function of the cases drawn."""

    name: str
    convention: str  # how it is defined
    statistic: Statistic  # from numbers of cases, with repeats, to the value; NaN where it is undefined
    higher: bool = True  # whether more is better
    why: str = "no case defines it"  # why it is undefined, where it is


class Task(Protocol):
    """A family's definitions, for one benchmark."""

    @property
    def family(self) -> str: ...

    @property
    def choice(self) -> tuple[str, str]:
        """Name and convention of the measure by which a head is chosen on validation cases."""

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        """What heads are trained towards, from the truth of all training moments (dense: of some)."""

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        """Rows of the table, [B] a column, from `Objective.predict`'s value and the truth of the same moments."""

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        """Every number that is reported, from the tables of V cases. Raises ValueError for none."""


class Undefined(TypedDict):
    """A measure without a value, and why."""

    metric: str
    convention: str
    why: str


@dataclass(frozen=True)
class Scored:
    """The numbers of one head, and those that the data leave undefined, each with the reason."""

    results: tuple[Result, ...]
    undefined: tuple[Undefined, ...]


def score(task: str, measures: Sequence[Measure], cases: int, report: ReportConfig | None) -> Scored:
    """Values with bootstrap intervals over cases; without a `report`, or for a single case, there is no interval.

    Draws of cases that leave a value undefined are told in its `interval_note`.
    """
    found: list[Result] = []
    undefined: list[Undefined] = []
    for measure in measures:
        value = measure.statistic(np.arange(cases))
        if not math.isfinite(value):
            undefined.append({"metric": measure.name, "convention": measure.convention, "why": measure.why})
            continue
        bounds, note = (None, "") if report is None else _interval(measure.statistic, cases, report)
        found.append(Result(task, measure.name, value, bounds, measure.convention, interval_note=note))
    return Scored(tuple(found), tuple(undefined))


def _interval(statistic: Statistic, cases: int, report: ReportConfig) -> tuple[tuple[float, float] | None, str]:
    """The interval over cases, and what is to be said of the draws without a value."""
    counted = CountsUndefined(statistic, cases)
    bounds = interval(
        counted, cases, resamples=report.resamples, level=report.level, method=report.method, seed=report.seed
    )
    return bounds, f"undefined in {counted.told(report.resamples, bounds is None)}" if counted.undefined else ""


class CountsUndefined:
    """A statistic that counts the draws of `cases` cases for which it is undefined."""

    def __init__(self, statistic: Statistic, cases: int) -> None:
        self._statistic, self.cases = statistic, cases
        self.undefined = 0

    def __call__(self, rows: np.ndarray) -> float:
        value = self._statistic(rows)
        self.undefined += len(rows) == self.cases and not math.isfinite(value)  # a case left out is no draw
        return value

    def told(self, resamples: int, missing: bool) -> str:
        """The share of undefined draws, and what became of the interval."""
        then = "no interval can be given" if missing else "intervals leave them out"
        return f"{self.undefined} of {resamples} draws of {self.cases} cases: {then}"


def value_of(measures: Sequence[Measure], chosen: tuple[str, str], cases: int) -> tuple[float, bool]:
    """The value of the measure of that name and convention over all cases, and whether more of it is better."""
    measure = next(m for m in measures if (m.name, m.convention) == chosen)
    return measure.statistic(np.arange(cases)), measure.higher


@dataclass(frozen=True, eq=False)
class Ratio:
    """A statistic that is a sum over the cases drawn divided by another, and then transformed; NaN where that is 0."""

    total_V: np.ndarray
    count_V: np.ndarray
    transform: Callable[[float], float]

    def __call__(self, rows: np.ndarray) -> float:
        count = self.count_V[rows].sum()
        return self.transform(float(self.total_V[rows].sum() / count)) if count else float("nan")


def mean_over(value_V: Sequence[float]) -> Ratio:
    """The mean of the cases drawn, those without a value left out; NaN without any."""
    values = np.asarray(value_V, np.float64)
    known_V = np.isfinite(values)
    return Ratio(np.where(known_V, values, 0.0), known_V.astype(np.float64), float)


def ratio_over(
    total_V: Sequence[float] | np.ndarray, count_V: Sequence[float] | np.ndarray, transform: Callable[[float], float]
) -> Ratio:
    """`transform` of the sum of totals divided by the sum of counts of the cases drawn; NaN where nothing counts."""
    return Ratio(np.asarray(total_V, np.float64), np.asarray(count_V, np.float64), transform)


def require_tables(tables: Sequence[Table]) -> None:
    """Raises ValueError where nothing was scored."""
    if not tables or not sum(len(next(iter(table.values()))) for table in tables):
        raise ValueError("no scored moment in any case; give a data set with labelled test cases")
