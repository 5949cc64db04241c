"""`surgmotion compare A B [...] [--out=FILE.html|FILE.tex]`: evaluations side by side, with significance.

A, B, ... are workdirs of finished evaluations. Those of one benchmark and protocol are rows of one table, a line a
metric and a column a checkpoint, with intervals over cases. Each is compared with the first given for its benchmark by
a paired bootstrap over the cases that both scored: * where p < 0.05.

  --out=FILE     also write the tables as HTML or LaTeX, by the ending
  --metrics=A,B  only these metrics
  --names=A,B    names of the columns, instead of those of the workdirs
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surgmotion_jax import storage

if TYPE_CHECKING:
    from surgmotion_jax.evaluate.metrics.bootstrap import Difference
    from surgmotion_jax.evaluate.tasks.task import Measure, Table

SIGNIFICANT = 0.05
ENDINGS = (".html", ".tex")


@dataclass(frozen=True, eq=False)
class Run:
    """One evaluation, as its files have it."""

    name: str
    fields: Mapping[str, Any]
    tables: Mapping[str, Table]  # by case

    @property
    def task(self) -> tuple[str, str]:
        """What must agree for two runs to stand in one table."""
        return self.fields["benchmark"], self.fields["protocol"]


@dataclass(frozen=True)
class Cell:
    """A number of one run, and how it differs from the first run's."""

    value: float
    interval: tuple[float, float] | None
    difference: Difference | None = None  # None for the first run, or where none can be had

    @property
    def mark(self) -> str:
        """A star where the difference is significant."""
        p = None if self.difference is None else self.difference.p
        return "*" if p is not None and p < SIGNIFICANT else ""

    @property
    def text(self) -> str:
        interval = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        return f"{self.value:.4g}{interval}{self.mark}"


@dataclass(frozen=True)
class Comparison:
    """Runs of one benchmark side by side."""

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell | None, ...]], ...]  # metric, convention, a cell a run
    notes: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv) or not argv:
        print(__doc__)
        return 0
    given = read_request(argv)
    wanted = tuple(given.metrics.split(",")) if given.metrics else ()
    comparisons = compare(read_runs(given.workdirs, given.names), wanted)
    print("\n\n".join(as_text(comparison) for comparison in comparisons))
    if given.out:
        write = as_html if given.out.endswith(".html") else as_latex
        storage.write_text_atomic(given.out, write(comparisons))
    return 0


def read_request(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. Raises ValueError for anything that cannot be."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("workdirs", nargs="*")
    for name in ("--out", "--metrics", "--names"):
        parser.add_argument(name)
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion compare --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion compare --help.")
    if len(given.workdirs) < 2:
        raise ValueError(f"{len(given.workdirs)} workdir(s) given; name two or more finished evaluations.")
    if given.out and not given.out.endswith(ENDINGS):
        raise ValueError(f"--out is {given.out!r}; its ending says the format: {' or '.join(ENDINGS)}")
    return given


def read_runs(workdirs: Sequence[str], names: str | None) -> list[Run]:
    """The evaluations. Raises ValueError for a workdir without one, or another number of names."""
    from surgmotion_jax.evaluate.results import read_predictions, read_results

    given = names.split(",") if names else [os.path.basename(os.path.abspath(path)) for path in workdirs]
    if len(given) != len(workdirs):
        raise ValueError(f"--names has {len(given)} names for {len(workdirs)} workdirs; give one each")
    return [Run(n, read_results(path), read_predictions(path)) for n, path in zip(given, workdirs, strict=True)]


def compare(runs: Sequence[Run], metrics: Sequence[str] = ()) -> list[Comparison]:
    """A comparison for each benchmark and protocol, in the order given. Raises ValueError for an unknown metric."""
    by_task: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_task.setdefault(run.task, []).append(run)
    known = {row["metric"] for run in runs for row in run.fields["chosen"]["results"]}
    for name in metrics:
        if name not in known:
            raise ValueError(f"--metrics: no run has {name!r}; there are {', '.join(sorted(known))}")
    return [_side_by_side(members, metrics) for members in by_task.values()]


def _side_by_side(runs: Sequence[Run], metrics: Sequence[str]) -> Comparison:
    from surgmotion_jax.evaluate.tasks.families import task_of_results

    first = runs[0]
    shared = [case for case in first.tables if all(case in run.tables for run in runs)]
    task = task_of_results(first.fields)
    measured = [_measures(task.measures([run.tables[case] for case in shared])) for run in runs] if shared else []
    rows = []
    for row in first.fields["chosen"]["results"]:
        key = (row["metric"], row["convention"])
        if metrics and key[0] not in metrics:
            continue
        cells = [_cell(runs, measured, number, key, len(shared)) for number in range(len(runs))]
        rows.append((*key, tuple(cells)))
    fields = first.fields
    title = f"{fields['title']}, protocol {fields['protocol']}, {len(shared)} cases compared"
    return Comparison(title, tuple(run.name for run in runs), tuple(rows), tuple(_notes(runs, shared)))


def _measures(measures: Sequence[Measure]) -> dict[tuple[str, str], Measure]:
    return {(measure.name, measure.convention): measure for measure in measures}


def _cell(
    runs: Sequence[Run], measured: Sequence[Mapping[Any, Measure]], number: int, key: tuple[str, str], cases: int
) -> Cell | None:
    from surgmotion_jax.evaluate.metrics.bootstrap import paired_difference

    found = [r for r in runs[number].fields["chosen"]["results"] if (r["metric"], r["convention"]) == key]
    if not found:
        return None
    interval = None if found[0]["interval"] is None else tuple(found[0]["interval"])
    if number == 0 or not measured:
        return Cell(found[0]["value"], interval)
    report = runs[0].fields["config"]["report"]
    difference = paired_difference(
        measured[0][key].statistic,
        measured[number][key].statistic,
        cases,
        resamples=report["resamples"],
        level=report["level"],
        seed=report["seed"],
    )
    return Cell(found[0]["value"], interval, difference if np.isfinite(difference.value) else None)


def _notes(runs: Sequence[Run], shared: Sequence[str]) -> list[str]:
    notes = [f"* differs from {runs[0].name}, p < {SIGNIFICANT:g} (paired bootstrap over cases, not corrected)"]
    for run in runs:
        if len(run.tables) != len(shared):
            left = len(run.tables) - len(shared)
            notes.append(f"{run.name} has {left} cases that others lack; differences leave them out")
        if run.fields["recipe"] != runs[0].fields["recipe"]:
            notes.append(f"{run.name} has recipe {run.fields['recipe']}, {runs[0].name} {runs[0].fields['recipe']}")
        head, own = (r.fields["config"]["probe"]["head"] for r in (runs[0], run))
        if own != head:
            notes.append(f"{run.name} has head {own}, {runs[0].name} {head}")
    if len(shared) < 2:
        notes.append("fewer than two cases in common: no significance can be computed")
    return notes


def as_text(comparison: Comparison) -> str:
    """A table for a terminal; conventions are numbered below it."""
    words = list(dict.fromkeys(row[1] for row in comparison.rows))
    lines = [("metric", *comparison.names)]
    for metric, convention, cells in comparison.rows:
        lines.append((f"{metric} ({words.index(convention) + 1})", *("-" if c is None else c.text for c in cells)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    numbered = [f"({number}) {word}" for number, word in enumerate(words, 1)]
    return "\n".join([comparison.title, "", *table, "", *numbered, *comparison.notes])


def as_html(comparisons: Sequence[Comparison]) -> str:
    """One self-contained page, a section a benchmark."""
    from surgmotion_jax.commands.evaluation_page import rows_table
    from surgmotion_jax.report.html import Section, page, sentence

    sections = []
    for comparison in comparisons:
        rows = [
            (metric, *("-" if c is None else c.text for c in cells), *map(_difference, cells[1:]), convention)
            for metric, convention, cells in comparison.rows
        ]
        differences = [f"{name} minus {comparison.names[0]}" for name in comparison.names[1:]]
        body = rows_table(("metric", *comparison.names, *differences, "convention"), rows)
        sections.append(Section(comparison.title, body + "".join(map(sentence, comparison.notes))))
    return page("Comparison", ", ".join(comparisons[0].names), sections, "evaluation report")


def _difference(cell: Cell | None) -> str:
    """A difference with its interval and p value."""
    if cell is None or cell.difference is None:
        return "-"
    found = cell.difference
    if found.interval is None:
        return f"{found.value:+.4g}"
    return f"{found.value:+.4g} [{found.interval[0]:+.4g}, {found.interval[1]:+.4g}], p = {found.p:.3g}"


def as_latex(comparisons: Sequence[Comparison]) -> str:
    """A `tabular` a benchmark, to be included in a document."""
    parts = []
    for comparison in comparisons:
        rows = [
            " & ".join([_latex(metric), *("--" if cell is None else _latex(cell.text) for cell in cells)]) + r" \\"
            for metric, _, cells in comparison.rows
        ]
        header = " & ".join(["metric", *map(_latex, comparison.names)]) + r" \\"
        comments = [f"% {line}" for line in (comparison.title, *comparison.notes)]
        columns = "l" * (1 + len(comparison.names))
        parts.append(
            "\n".join([*comments, rf"\begin{{tabular}}{{{columns}}}", r"\hline", header, r"\hline", *rows, r"\hline"])
            + "\n\\end{tabular}\n"
        )
    return "\n".join(parts)


def _latex(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
