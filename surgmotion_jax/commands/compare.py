"""`surgmotion compare A B [...] [--out=FILE.html|FILE.tex]`: evaluations side by side, with significance.

A, B, ... are workdirs of finished evaluations. Those of one benchmark and protocol are columns of one table, a line a
metric and a column a checkpoint, with intervals over cases. Each is compared with the first given for its benchmark by
a paired bootstrap over the cases that both scored: * where p < 0.05. These cases must have the same moments and labels
in all columns; in what else their configs differ is noted. A dash is a number that a column lacks, with the reason.

A0,A1,A2 joins the seeds of one column: evaluations that differ in seeds alone. It shows their mean, their standard
deviation (sd), and intervals and differences of the mean, with the same cases drawn for every seed. Columns may have
different numbers of seeds. A workdir whose own path has a comma is given alone.

Where there are several benchmarks, a summary has a line for each, by the measure that heads are chosen by, with p
values corrected for their number (Holm). Give the columns of each benchmark in the same order.

  --out=FILE     also write the tables as HTML or LaTeX, by the ending
  --metrics=A,B  only these metrics
  --names=A,B    names of the columns, one for each argument, instead of those of the workdirs
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from surgmotion_jax import storage

if TYPE_CHECKING:
    from surgmotion_jax.evaluate.compare.comparison import Cell, Comparison, Summary
    from surgmotion_jax.evaluate.compare.seeds import Column

ENDINGS = (".html", ".tex")


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv) or not argv:
        print(__doc__)
        return 0
    from surgmotion_jax.evaluate.compare.comparison import compare, summarise

    given = read_request(argv)
    wanted = tuple(given.metrics.split(",")) if given.metrics else ()
    comparisons = compare(read_columns(given.workdirs, given.names), wanted)
    summary = summarise(comparisons)
    texts = [as_text(comparison) for comparison in comparisons]
    print("\n\n".join([*texts, *([] if summary is None else [summary_text(summary)])]))
    if given.out:
        write = as_html if given.out.endswith(".html") else as_latex
        storage.write_text_atomic(given.out, write(comparisons, summary))
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
        joined = "; commas join the seeds of one column" if any("," in w for w in given.workdirs) else ""
        raise ValueError(f"{len(given.workdirs)} workdir(s) given; name two or more finished evaluations{joined}.")
    if given.out and not given.out.endswith(ENDINGS):
        raise ValueError(f"--out is {given.out!r}; its ending says the format: {' or '.join(ENDINGS)}")
    return given


def read_columns(arguments: Sequence[str], names: str | None) -> list[Column]:
    """A column an argument.

    Raises ValueError for a workdir without an evaluation, another number of names, and seeds that do not belong
    together.
    """
    from surgmotion_jax.evaluate.compare.seeds import read_column, shared_name

    groups = [seeds_of(argument) for argument in arguments]
    given = names.split(",") if names else [shared_name(list(map(_last, group))) for group in groups]
    if len(given) != len(groups):
        raise ValueError(f"--names has {len(given)} names for {len(groups)} columns; give one each")
    columns = [read_column(name, group) for name, group in zip(given, groups, strict=True)]
    return columns if names else told_apart(columns)


def seeds_of(argument: str) -> list[str]:
    """The workdirs that an argument joins by commas; one that is there as it stands is a workdir itself."""
    if "," not in argument or storage.as_path(argument).exists():
        return [argument]
    workdirs = argument.split(",")
    if not all(workdirs):
        raise ValueError(f"{argument!r} joins workdirs by commas, and one of them is empty; remove the comma too many")
    return workdirs


def told_apart(columns: Sequence[Column]) -> list[Column]:
    """The columns, those that one table has under the same name with that of their folder before it."""
    from surgmotion_jax.evaluate.compare.seeds import shared_name

    def in_folder(column: Column) -> Column:
        folder = shared_name([_last(os.path.dirname(os.path.abspath(run.workdir))) for run in column.runs])
        return dataclasses.replace(column, name=os.path.join(folder, column.name))

    count = Counter((column.task, column.name) for column in columns)
    return [column if count[column.task, column.name] == 1 else in_folder(column) for column in columns]


def _last(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


def as_text(comparison: Comparison) -> str:
    """A table for a terminal; conventions are numbered below it."""
    words = list(dict.fromkeys(row[1] for row in comparison.rows))
    lines = [("metric", *comparison.names)]
    for metric, convention, cells in comparison.rows:
        lines.append((f"{metric} ({words.index(convention) + 1})", *("-" if c is None else c.text for c in cells)))
    numbered = [f"({number}) {word}" for number, word in enumerate(words, 1)]
    return "\n".join([comparison.title, "", *_aligned(lines), "", *numbered, *comparison.notes])


def summary_text(summary: Summary) -> str:
    """All benchmarks, for a terminal."""
    return "\n".join(["All benchmarks", "", *_aligned(summary_rows(summary)), "", *summary.notes])


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def summary_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A header, and a row a benchmark: its measure, the mean of each column, the difference of each to the first."""
    names = summary.names
    rows = [("benchmark", "metric", *names, *(f"{name} minus {names[0]}" for name in names[1:]))]
    for line, corrected in zip(summary.lines, summary.holm, strict=True):
        metric, _, cells = line.row
        padded = [*cells, *[None] * (len(names) - len(cells))]
        p_values = [*corrected, *[None] * (len(names) - len(cells))]
        means = ["-" if cell is None else cell.mean for cell in padded]
        differences = [_corrected(cell, p) for cell, p in zip(padded[1:], p_values[1:], strict=True)]
        direction = "higher" if line.higher else "lower"
        rows.append((line.subject, f"{metric}, {direction} is better", *means, *differences))
    return rows


def _corrected(cell: Cell | None, p: float | None) -> str:
    """A difference with its p value as it is and as Holm corrects it."""
    from surgmotion_jax.evaluate.compare.comparison import SIGNIFICANT

    return _difference(cell) + ("" if p is None else f", Holm {p:.3g}{'*' if p < SIGNIFICANT else ''}")


def _difference(cell: Cell | None) -> str:
    """A difference with its interval and p value."""
    if cell is None or cell.difference is None:
        return "-"
    found = cell.difference
    if found.interval is None:
        return f"{found.value:+.4g}"
    return f"{found.value:+.4g} [{found.interval[0]:+.4g}, {found.interval[1]:+.4g}], p = {found.p:.3g}"


def as_html(comparisons: Sequence[Comparison], summary: Summary | None = None) -> str:
    """One self-contained page, a section a benchmark."""
    from surgmotion_jax.report.html import Section, page, sentence
    from surgmotion_jax.runs.evaluation_page import rows_table

    sections = []
    for comparison in comparisons:
        rows = [
            (metric, *("-" if c is None else c.text for c in cells), *map(_difference, cells[1:]), convention)
            for metric, convention, cells in comparison.rows
        ]
        differences = [f"{name} minus {comparison.names[0]}" for name in comparison.names[1:]]
        body = rows_table(("metric", *comparison.names, *differences, "convention"), rows)
        sections.append(Section(comparison.title, body + "".join(map(sentence, comparison.notes))))
    if summary is not None:
        header, *lines = summary_rows(summary)
        sections.append(Section("All benchmarks", rows_table(header, lines) + "".join(map(sentence, summary.notes))))
    names = comparisons[0].names if summary is None else summary.names
    return page("Comparison", ", ".join(names), sections, "evaluation report")


def as_latex(comparisons: Sequence[Comparison], summary: Summary | None = None) -> str:
    """A `tabular` a benchmark, to be included in a document."""
    parts = []
    for comparison in comparisons:
        rows = [
            (metric, *("--" if cell is None else cell.text for cell in cells)) for metric, _, cells in comparison.rows
        ]
        parts.append(_tabular([comparison.title, *comparison.notes], ("metric", *comparison.names), rows))
    if summary is not None:
        header, *lines = summary_rows(summary)
        dashed = [tuple("--" if cell == "-" else cell for cell in line) for line in lines]
        parts.append(_tabular(["All benchmarks", *summary.notes], header, dashed))
    return "\n".join(parts)


def _tabular(comments: Sequence[str], header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head, *body = [" & ".join(map(_latex, line)) + r" \\" for line in (header, *rows)]
    said = [f"% {line}" for line in comments]
    begin = rf"\begin{{tabular}}{{{'l' * len(header)}}}"
    return "\n".join([*said, begin, r"\hline", head, r"\hline", *body, r"\hline"]) + "\n\\end{tabular}\n"


def _latex(text: str) -> str:
    """Text with LaTeX's special characters made harmless."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
