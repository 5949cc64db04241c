"""Evaluations side by side: as text for a terminal, as an HTML page, and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from surgmotion_jax.evaluate.compare.comparison import SIGNIFICANT, Cell, Comparison, Summary
from surgmotion_jax.pages.evaluation import rows_table
from surgmotion_jax.report.html import Section, page, sentence


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
