"""The evaluations of one checkpoint that differ in seeds alone, as one column of a comparison. Letters: S seeds."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.differences import differences
from surgmotion_jax.evaluate.config import FROZEN, trained_part
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.results import CONFIG_FILE, ResultRow, Results, read_predictions, read_results
from surgmotion_jax.evaluate.tasks.task import Table, Task

SHARED_BY_SEEDS = ("benchmark", "protocol", "classes", "config")
OWN_OF_A_SEED = ("config.data.seed", "config.sweep.seed", "config.report.seed", "config.data.protocol")
"""What seeds of a column may differ in. Of these data.protocol may be left empty; `protocol` says which it was."""
FROZEN_USE = "frozen"
TRUE_COLUMNS = ("truth", "task")
"""What the data say of a moment, in the tables of the families that have it."""

Key = tuple[str, str]  # metric, convention


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation, as its files have it."""

    workdir: str
    fields: Results
    tables: Mapping[str, Table]  # by case
    architecture: Mapping[str, object] | None = None  # of the encoder; None where it is not known

    @property
    def stored(self) -> dict[Key, ResultRow]:
        """Its results by metric and convention."""
        return {(row["metric"], row["convention"]): row for row in self.fields["chosen"]["results"]}


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
    def fields(self) -> Results:
        """results.json of the first seed, which stands for all where they agree."""
        return self.runs[0].fields

    @property
    def cases(self) -> tuple[str, ...]:
        return tuple(self.runs[0].tables)

    @property
    def task(self) -> tuple[str, str]:
        """What must agree for two columns to stand in one table."""
        return self.fields["benchmark"], self.fields["protocol"]

    @property
    def use(self) -> str:
        """What was done with the encoder: frozen, or fine-tuned and how much of it."""
        part = trained_part(self.fields["config"])
        return FROZEN_USE if part == FROZEN else f"fine-tuned ({part})"

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


def read_column(name: str, workdirs: Sequence[str]) -> Column:
    """The evaluations of a column. Raises ValueError for a workdir without one, and as `Column` does."""
    _check_distinct(workdirs)
    runs = [Run(path, read_results(path), read_predictions(path), _architecture(path)) for path in workdirs]
    return Column(name, tuple(runs))


def _architecture(workdir: str) -> Mapping[str, object] | None:
    """The encoder's, as `config.json` has it; None for features of others."""
    path = storage.as_path(workdir) / CONFIG_FILE
    found = storage.read_json(path) if path.exists() else None
    return found.get("architecture") if isinstance(found, Mapping) else None


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
    one, two = cast(Mapping[str, object], first.fields), cast(Mapping[str, object], other.fields)
    pairs = [differences(one[name], two[name], name, absent=None) for name in SHARED_BY_SEEDS]
    if first.architecture is not None and other.architecture is not None:
        pairs.append(differences(first.architecture, other.architecture, "architecture", absent=None))
    found = [f"{field}: {a!r} and {b!r}" for of in pairs for field, a, b in of if field not in OWN_OF_A_SEED]
    found += _differing_cases(first.tables, other.tables)
    if found:
        raise ValueError(
            f"{first.workdir} and {other.workdir} are joined as seeds of one column, but differ in more than seeds:\n"
            f"  {_listed(found)}\nJoin by commas only repetitions of one evaluation, and give others as "
            "arguments of their own."
        )


def _differing_cases(one: Mapping[str, Table], other: Mapping[str, Table]) -> list[str]:
    """Differences of the test cases and of their moments."""
    if one.keys() != other.keys():
        alone = sorted(one.keys() ^ other.keys())
        listed = ", ".join(alone[:LISTED]) + (", ..." if len(alone) > LISTED else "")
        return [f"test cases: {len(one)} and {len(other)}; not in both: {listed}"]
    return _differing_truth(one, other, list(one))


def check_one_use(columns: Sequence[Column]) -> None:
    """Raises ValueError where the columns, one of each benchmark, mix frozen with fine-tuned encoders."""
    first = columns[0]
    for column in columns[1:]:
        if FROZEN_USE in (first.use, column.use) and first.use != column.use:
            raise ValueError(
                f"{first.runs[0].workdir} and {column.runs[0].workdir} stand at the same place of their benchmarks and "
                f"would be one column of the summary, but {first.use} and {column.use} encoders are never mixed in "
                "one; give the arguments of every benchmark in the same order"
            )


def check_comparable(first: Column, other: Column, cases: Sequence[str]) -> None:
    """Raises ValueError where two columns cannot be paired: other classes, or other moments or truth of a case."""
    one, two = first.runs[0], other.runs[0]  # each stands for its seeds, which agree in all of this
    pairs = differences(one.fields["classes"], two.fields["classes"], "classes", absent=None)
    found = [f"{field}: {a!r} and {b!r}" for field, a, b in pairs]
    found += _differing_truth(one.tables, two.tables, cases)
    if found:
        raise ValueError(
            f"{one.workdir} and {two.workdir} are columns of one table, but were not scored on the same:\n"
            f"  {_listed(found)}\nCompare only evaluations of one data set, with the same moments and labels; evaluate "
            "one of them again, or leave it out."
        )


def _differing_truth(one: Mapping[str, Table], other: Mapping[str, Table], cases: Sequence[str]) -> list[str]:
    """Cases of both whose moments are others, or of whose moments the data say something else."""
    found = []
    for case in cases:
        a, b = one[case], other[case]
        if not np.array_equal(a["time"], b["time"]):
            found.append(f"moments of test case {case!r}")
            continue
        for name in TRUE_COLUMNS:
            if name in a and name in b and not np.array_equal(a[name], b[name]):
                count = np.count_nonzero(a[name] != b[name])
                found.append(f"{name} of test case {case!r}, at {count} of {len(a[name])} moments")
    return found


def _listed(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    more = len(lines) - LISTED
    return "\n  ".join([*lines[:LISTED], *([f"and {more} more"] if more > 0 else [])])
