"""Evaluations side by side: means over seeds, intervals over cases, paired differences, and all benchmarks in a line.

Cases are the unit that is drawn; seeds are averaged within each draw. So intervals and p values speak of other cases,
not of other seeds: how seeds scatter is their standard deviation, shown beside the mean.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from surgmotion_jax.differences import differences
from surgmotion_jax.evaluate.compare.seeds import OWN_OF_A_SEED, Column, Key, Run, check_comparable, check_one_use
from surgmotion_jax.evaluate.config import ReportFields
from surgmotion_jax.evaluate.metrics.bootstrap import Difference, interval, paired_difference
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.evaluate.tasks.task import CountsUndefined

SIGNIFICANT = 0.05
NOTED = 6  # differing fields spelled out in a note
NOTED_ELSEWHERE = (
    *OWN_OF_A_SEED,
    "config.data.recipe",
    "config.probe.head",
    "config.finetune",  # the whole section, which only evaluations have whose encoder was trained
    "config.finetune.blocks",
)
METHODS = {"bca": "BCa", "percentile": "percentile"}


@dataclass(frozen=True)
class Cell:
    """A number of one column, and how it differs from the first column's."""

    value: float  # the mean over seeds
    interval: tuple[float, float] | None  # over cases
    difference: Difference | None = None  # None for the first column, or where none can be had
    deviation: float | None = None  # standard deviation over S seeds, by S - 1; None for a single evaluation

    @property
    def mark(self) -> str:
        """A star where the difference is significant."""
        p = None if self.difference is None else self.difference.p
        return "*" if p is not None and p < SIGNIFICANT else ""

    @property
    def mean(self) -> str:
        """The value, with the deviation of its seeds."""
        if self.deviation is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} (sd {round(self.deviation, 12):.2g})"  # equal seeds differ by rounding at most

    @property
    def text(self) -> str:
        bounds = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        return f"{self.mean}{bounds}{self.mark}"


Row = tuple[str, str, tuple[Cell | None, ...]]
"""Metric, convention, a cell a column; None where a column has no such number."""


@dataclass(frozen=True)
class Headline:
    """The measure by which heads are chosen, which stands for its benchmark where there are several."""

    subject: str  # benchmark and protocol
    row: Row
    higher: bool  # whether more is better
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Columns of one benchmark side by side."""

    title: str
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    headline: Headline | None = None  # None where this benchmark is the only one


@dataclass(frozen=True)
class Summary:
    """A line a benchmark. `holm` has the corrected p of each column, None where there is none, as in the first."""

    names: tuple[str, ...]
    lines: tuple[Headline, ...]
    holm: tuple[tuple[float | None, ...], ...]
    notes: tuple[str, ...]


def compare(columns: Sequence[Column], metrics: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each benchmark and protocol, in the order given.

    Raises ValueError for an unknown metric, for columns whose shared cases have other moments or labels, and where the
    columns at one place have frozen encoders on some benchmarks and fine-tuned ones on others.
    """
    by_task: dict[tuple[str, str], list[Column]] = {}
    for column in columns:
        by_task.setdefault(column.task, []).append(column)
    for place in itertools.zip_longest(*by_task.values()):
        check_one_use([column for column in place if column is not None])
    known = {metric for column in columns for run in column.runs for metric, _ in run.stored}
    for name in metrics:
        if name not in known:
            raise ValueError(f"--metrics: no run has {name!r}; there are {', '.join(sorted(known))}")
    return [_SideBySide(members).comparison(metrics, len(by_task) > 1) for members in by_task.values()]


def summarise(comparisons: Sequence[Comparison]) -> Summary | None:
    """All benchmarks in a line each; None for a single one. Columns belong together by their place."""
    lines = tuple(comparison.headline for comparison in comparisons if comparison.headline is not None)
    if len(lines) < 2:
        return None
    width = max(len(line.row[2]) for line in lines)
    by_place = [[c.names[place] for c in comparisons if place < len(c.names)] for place in range(width)]
    names = tuple(map(_name_of_place, by_place))
    found = [[None if c is None or c.difference is None else c.difference.p for c in line.row[2]] for line in lines]
    corrected = iter(holm([p for ps in found for p in ps]))
    count = sum(p is not None for ps in found for p in ps)
    notes = [
        f"* p < {SIGNIFICANT:g} after Holm's correction (tests in this summary: {count}); columns are matched by "
        "place, differences are to the first"
    ]
    notes += [f"{line.subject}: {line.row[0]}: {line.row[1]}" for line in lines]
    notes += [f"{line.subject}: {note}" for line in lines for note in line.notes]
    return Summary(names, lines, tuple(tuple(next(corrected) for _ in ps) for ps in found), tuple(notes))


def _name_of_place(names: Sequence[str]) -> str:
    """One name for the columns at one place: theirs, else the folder that theirs share, else all of them."""
    distinct = list(dict.fromkeys(names))
    folders = {os.path.dirname(name) for name in distinct}
    return folders.pop() if len(distinct) > 1 and len(folders) == 1 and "" not in folders else " / ".join(distinct)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected by Holm's step-down procedure (1979); None, where there was no test, stays and counts not."""
    tests = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (p, place) in enumerate(tests):
        reached = max(reached, min(1.0, (len(tests) - rank) * p))
        corrected[place] = reached
    return corrected


class _SideBySide:
    """The columns of one table, and what is to be said of them as its cells are filled."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns, first = columns, columns[0]
        self.shared = [case for case in first.cases if all(case in column.runs[0].tables for column in columns)]
        for column in columns[1:]:
            check_comparable(first, column, self.shared)
        self.task = task_of_results(first.fields)
        tables = {case: table for column in columns for case, table in column.runs[0].tables.items()}
        self.measures = self.task.measures(list(tables.values()))  # all that any column can have, in the task's order
        self.on_own = [c.measures(task_of_results(c.fields), c.cases) if len(c.runs) > 1 else {} for c in columns]
        self.on_shared = [column.measures(self.task, self.shared) for column in columns] if self.shared else []
        self.notes: list[str] = []

    def comparison(self, metrics: Sequence[str], with_headline: bool) -> Comparison:
        fields = self.columns[0].fields
        subject = f"{fields['title']}, protocol {fields['protocol']}"
        title, names = f"{subject}, {len(self.shared)} cases compared", tuple(column.name for column in self.columns)
        rows = tuple(self.row(key) for key in self.keys() if not metrics or key[0] in metrics)
        notes = tuple(dict.fromkeys([*_notes(self.columns, self.shared), *self.notes]))
        return Comparison(title, names, rows, notes, self.headline(subject) if with_headline else None)

    def headline(self, subject: str) -> Headline:
        higher = next(m.higher for m in self.measures if (m.name, m.convention) == self.task.choice)
        self.notes = []
        return Headline(subject, self.row(self.task.choice), higher, tuple(dict.fromkeys(self.notes)))

    def keys(self) -> list[Key]:
        """The numbers that one column has or more, in the task's order; those it does not know come last."""
        pairs = zip(self.on_own, self.columns, strict=True)
        found = [key for on_own, column in pairs for key in on_own or column.runs[0].stored]
        known = [(measure.name, measure.convention) for measure in self.measures]
        return [*(key for key in known if key in found), *(key for key in dict.fromkeys(found) if key not in known)]

    def row(self, key: Key) -> Row:
        return (*key, tuple(self.cell(number, key) for number in range(len(self.columns))))

    def cell(self, number: int, key: Key) -> Cell | None:
        column = self.columns[number]
        cell = self.stored(number, key) if len(column.runs) == 1 else self.mean(number, key)
        if cell is None or number == 0 or not self.shared:
            return cell
        return dataclasses.replace(cell, difference=self.difference(number, key))

    def stored(self, number: int, key: Key) -> Cell | None:
        """The number of a single evaluation, as its results have it; None where they have none."""
        name, run = self.columns[number].name, self.columns[number].runs[0]
        found = run.stored.get(key)
        if found is None:
            self.notes.append(f"{name}: {_named(key)} is {_missing(run, key)}")
            return None
        if "interval_note" in found:
            self.notes.append(f"{name}: {_named(key)} is {found['interval_note']}")
        bounds = found["interval"]
        return Cell(found["value"], None if bounds is None else (bounds[0], bounds[1]))

    def mean(self, number: int, key: Key) -> Cell | None:
        """The mean over seeds, over all cases of the column; None where a seed leaves it undefined."""
        column, statistic = self.columns[number], self.on_own[number].get(key)
        if statistic is None:
            self.notes.append(f"{column.name}: {_named(key)} is not among the results of every seed")
            return None
        count, report = len(column.cases), column.fields["config"]["report"]
        value_S = statistic.each(np.arange(count))
        without = [run.workdir for run, value in zip(column.runs, value_S, strict=True) if not math.isfinite(value)]
        if without:
            self.notes.append(f"{column.name}: {_named(key)} is undefined for {', '.join(without)}: no mean is given")
            return None
        counted = CountsUndefined(statistic, count)
        bounds = interval(counted, count, **_draws(report), method=report["method"])
        self.say_undefined(column, key, counted, bounds is None, report["resamples"])
        return Cell(float(value_S.mean()), bounds, deviation=float(value_S.std(ddof=1)))

    def difference(self, number: int, key: Key) -> Difference | None:
        """The paired difference to the first column, over the cases that all have."""
        first, column = self.columns[0], self.columns[number]
        a, b = (self.on_shared[n].get(key) for n in (0, number))
        if a is None or b is None:
            return None
        count, report = len(self.shared), first.fields["config"]["report"]
        of_first, of_column = CountsUndefined(a, count), CountsUndefined(b, count)
        found = paired_difference(of_first, of_column, count, **_draws(report))
        pair = f"{column.name} minus {first.name}: {_named(key)}"
        if not math.isfinite(found.value):
            self.notes.append(f"{pair} is undefined over the {count} cases compared")
            return None
        if found.interval is None and (of_first.undefined or of_column.undefined):
            sides = f"{first.name}: {of_first.undefined}, {column.name}: {of_column.undefined}"
            draws = f"{report['resamples']} draws of {count} cases"
            self.notes.append(f"{pair} is undefined in too many of {draws} ({sides}): no interval can be given")
        elif found.interval is not None:
            for side, counted in ((first, of_first), (column, of_column)):
                self.say_undefined(side, key, counted, False, report["resamples"])
        return found

    def say_undefined(self, column: Column, key: Key, counted: CountsUndefined, missing: bool, resamples: int) -> None:
        """Notes the draws that a seed leaves without a value."""
        if counted.undefined:
            whose = ", for one seed or more," if len(column.runs) > 1 else ""
            self.notes.append(f"{column.name}: {_named(key)} is undefined{whose} in {counted.told(resamples, missing)}")


def _missing(run: Run, key: Key) -> str:
    """Why the results of an evaluation lack a number."""
    rows = run.fields["chosen"]["undefined"]
    why = [row["why"] for row in rows if (row["metric"], row["convention"]) == key]
    return f"undefined: {why[0]}" if why else "not among its results"


class _Draws(TypedDict):
    resamples: int
    level: float
    seed: int


def _draws(report: ReportFields) -> _Draws:
    return {"resamples": report["resamples"], "level": report["level"], "seed": report["seed"]}


def _named(key: Key) -> str:
    return f"{key[0]} ({key[1]})"


def _notes(columns: Sequence[Column], shared: Sequence[str]) -> list[str]:
    first = columns[0]
    methods = dict.fromkeys(METHODS[column.fields["config"]["report"]["method"]] for column in columns)
    notes = [
        f"* differs from {first.name}, p < {SIGNIFICANT:g} (paired bootstrap over cases, not corrected); intervals: of "
        f"values {' or '.join(methods)}, of differences percentile"
    ]
    for column in columns:
        left = len(column.cases) - len(shared)
        if left:
            notes.append(f"{column.name} has {left} cases that others lack; differences leave them out")
        mine, its = column.fields, first.fields
        if mine["recipe"] != its["recipe"]:
            notes.append(f"{column.name} has recipe {mine['recipe']}, {first.name} {its['recipe']}")
        head, own = (fields["config"]["probe"]["head"] for fields in (its, mine))
        if own != head:
            notes.append(f"{column.name} has head {own}, {first.name} {head}")
        if column.use != first.use:
            notes.append(f"{column.name} has a {column.use} encoder, {first.name} a {first.use} one")
        notes += _config_notes(first, column)
        notes += _seed_notes(column)
    if any(len(column.runs) > 1 for column in columns):
        notes.append(
            "sd is the standard deviation over seeds; intervals and p are over cases, for the mean of these seeds"
        )
    if len(shared) < 2:
        notes.append("fewer than two cases in common: no significance can be computed")
    return notes


def _config_notes(first: Column, column: Column) -> list[str]:
    """In what the config of a column differs from the first's, seeds and what has a note of its own left out."""
    pairs = differences(first.fields["config"], column.fields["config"], "config", absent=None)
    said = [
        f"{field.removeprefix('config.')} {own!r}, not {its!r}"
        for field, its, own in pairs
        if field not in NOTED_ELSEWHERE
    ]
    more = [f"and {len(said) - NOTED} more"] if len(said) > NOTED else []
    listed = "; ".join([*said[:NOTED], *more])
    return [f"{column.name} differs from {first.name} in its config: {listed}"] if said else []


def _seed_notes(column: Column) -> list[str]:
    """What a column of several seeds is made of."""
    if len(column.runs) == 1:
        return []
    count, workdirs = len(column.runs), ", ".join(run.workdir for run in column.runs)
    notes = [f"{column.name}: mean of {count} seeds ({workdirs})"]
    if len({run.fields["predictions_sha256"] for run in column.runs}) < count:
        notes.append(f"{column.name}: some of its seeds have equal predictions: copies, or seeds that change nothing")
    encoders = [run.fields["encoder"].get("name", run.fields["encoder"].get("features", "")) for run in column.runs]
    if len({re.sub(r"\d+$", "", name) for name in encoders}) > 1:
        notes.append(f"{column.name}: its encoders differ in more than a number: {', '.join(encoders)}")
    for field in ("step", "dtype"):
        values = [run.fields["encoder"].get(field) for run in column.runs]  # features of others have neither
        if len(set(values)) > 1:
            notes.append(f"{column.name}: its encoders differ in {field}: {', '.join(map(str, values))}")
    return notes
