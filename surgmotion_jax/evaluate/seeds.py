"""The evaluations of one checkpoint that differ in seeds alone, as one column of a comparison. Letters: S seeds."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.results import read_predictions, read_results, result_rows
from surgmotion_jax.evaluate.tasks.task import Table, Task

SHARED_BY_SEEDS = ("benchmark", "protocol", "classes", "config")
OWN_OF_A_SEED = ("config.data.seed", "config.sweep.seed", "config.report.seed", "config.data.protocol")
"""What seeds of a column may differ in. Of these data.protocol may be left empty; `protocol` says which it was."""

Key = tuple[str, str]  # metric, convention


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation, as its files have it."""

    workdir: str
    fields: Mapping[str, Any]
    tables: Mapping[str, Table]  # by case

    @property
    def stored(self) -> dict[Key, dict[str, Any]]:
        """Its results by metric and convention."""
        return {(row["metric"], row["convention"]): row for row in result_rows(self.fields)}


@dataclass(frozen=True, eq=False)
class Column:
    """One checkpoint on one benchmark: an evaluation, or several that differ in seeds alone.

    Raises ValueError for a workdir given twice, and for seeds that were not evaluated alike.
    """

    name: str
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        _check_distinct([run.workdir for run in self.runs])
        for run in self.runs[1:]:
            _check_alike(self.runs[0], run)

    @property
    def fields(self) -> Mapping[str, Any]:
        """results.json of the first seed, which stands for all where they agree."""
        return self.runs[0].fields

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(self.runs[0].tables)

    @property
    def task(self) -> tuple[str, str]:
        """What must agree for two columns to stand in one table."""
        return self.fields["benchmark"], self.fields["protocol"]

    def measures(self, task: Task, cases: Sequence[str]) -> dict[Key, SeedMean]:
        """Every measure as a function of the cases drawn from `cases`."""
        by_run = [
            {(m.name, m.convention): m.statistic for m in task.measures([run.tables[case] for case in cases])}
            for run in self.runs
        ]
        keys = [key for key in by_run[0] if all(key in found for found in by_run)]
        return {key: SeedMean(tuple(found[key] for found in by_run)) for key in keys}


@dataclass(frozen=True)
class SeedMean:
    """A statistic averaged over seeds; undefined for a draw of cases that leaves it undefined for any of them."""

    statistics_S: tuple[Statistic, ...]

    def each(self, rows: np.ndarray) -> np.ndarray:
        """The values of the seeds, [S], on the same drawn cases."""
        return np.array([statistic(rows) for statistic in self.statistics_S])

    def __call__(self, rows: np.ndarray) -> float:
        return float(self.each(rows).mean())


class Watched:
    """A statistic that counts the draws of `cases` cases for which it is undefined."""

    def __init__(self, statistic: Statistic, cases: int) -> None:
        self._statistic, self.cases = statistic, cases
        self.undefined = 0

    def __call__(self, rows: np.ndarray) -> float:
        value = self._statistic(rows)
        self.undefined += len(rows) == self.cases and not math.isfinite(value)
        return value


def read_column(name: str, workdirs: Sequence[str]) -> Column:
    """The evaluations of a column. Raises ValueError for a workdir without one, and as `Column` does."""
    _check_distinct(workdirs)
    return Column(name, tuple(Run(path, read_results(path), read_predictions(path)) for path in workdirs))


def shared_name(names: Sequence[str]) -> str:
    """What the names of several seeds have in common, without the number that tells them apart; else the first."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    prefix = "".join(letters[0] for letters in same)
    if any(name[len(prefix) :][:1].isdigit() for name in names):
        prefix = prefix.rstrip("0123456789")  # of base10 and base11 it is `base`, of cholec80-0 and -1 `cholec80`
    return prefix.rstrip("-_") or names[0]


def _check_distinct(workdirs: Sequence[str]) -> None:
    places = [os.path.realpath(os.path.expanduser(w)) if storage.is_local(w) else w.rstrip("/") for w in workdirs]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ValueError(
                f"{workdirs[number]}: given twice in the column {','.join(workdirs)}; a mean over seeds counts each "
                "evaluation once: name another"
            )


def _check_alike(first: Run, other: Run) -> None:
    """Raises ValueError where two runs are not the same evaluation with other seeds."""
    found = [line for name in SHARED_BY_SEEDS for line in _differing(first.fields[name], other.fields[name], name)]
    found += _differing_cases(first.tables, other.tables)
    if found:
        listed = "\n  ".join([*found[:LISTED], *([f"and {len(found) - LISTED} more"] if len(found) > LISTED else [])])
        raise ValueError(
            f"{first.workdir} and {other.workdir} are joined as seeds of one column, but differ in more than seeds:\n"
            f"  {listed}\nJoin by commas only repetitions of one evaluation, and give others as arguments of their own."
        )


def _differing_cases(one: Mapping[str, Table], other: Mapping[str, Table]) -> list[str]:
    """Differences of the test cases and of their moments."""
    if one.keys() != other.keys():
        alone = sorted(one.keys() ^ other.keys())
        listed = ", ".join(alone[:LISTED]) + (", ..." if len(alone) > LISTED else "")
        return [f"test cases: {len(one)} and {len(other)}; not in both: {listed}"]
    moved = [case for case, table in one.items() if not np.array_equal(table["time"], other[case]["time"])]
    return [f"moments of test case {case!r}" for case in moved]


def _differing(one: Any, other: Any, field: str) -> list[str]:
    """Differences of two JSON values, a line a field with its dotted path."""
    if field in OWN_OF_A_SEED:
        return []
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = sorted(one.keys() | other.keys())
        return [line for n in names for line in _differing(one.get(n), other.get(n), f"{field}.{n}")]
    return [] if one == other else [f"{field}: {one!r} and {other!r}"]
