"""Shows evaluations side by side, with significance.

A, B, ... are workdirs of finished evaluations. Those of one benchmark and protocol are columns of one table, a line a
metric and a column a checkpoint, with intervals over cases. Each is compared with the first given for its benchmark by
a paired bootstrap over the cases that both scored: * where p < 0.05. These cases must have the same moments and labels
in all columns; in what else their configs differ is noted. A dash is a number that a column lacks, with the reason.

A0,A1,A2 joins the seeds of one column: evaluations that differ in seeds alone. It shows their mean, their standard
deviation (sd), and intervals and differences of the mean, with the same cases drawn for every seed. Columns may have
different numbers of seeds. A workdir whose own path has a comma is given alone.

Where there are several benchmarks, a summary has a line for each, by the measure that heads are chosen by, with p
values corrected for their number (Holm). Give the columns of each benchmark in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, comma_list, flag, positional
from surgmotion_jax.evaluate.compare.columns import read_columns
from surgmotion_jax.evaluate.compare.comparison import compare, summarise
from surgmotion_jax.pages.comparison import as_html, as_latex, as_text, summary_text

ENDINGS = (".html", ".tex")


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    workdirs: tuple[str, ...] = positional("A", "workdir of a finished evaluation, or seeds joined by commas")
    out: str | None = flag("FILE", "also write the tables as HTML or LaTeX, by the ending", default=None)
    metrics: tuple[str, ...] = flag("A,B", "only these metrics", default=(), read=comma_list)
    names: tuple[str, ...] = flag(
        "A,B",
        "names of the columns, one for each argument, instead of those of the workdirs",
        default=(),
        read=comma_list,
    )

    def __post_init__(self) -> None:
        if len(self.workdirs) < 2:
            joined = "; commas join the seeds of one column" if any("," in w for w in self.workdirs) else ""
            raise ValueError(f"{len(self.workdirs)} workdir(s) given; name two or more finished evaluations{joined}.")
        if self.out and not self.out.endswith(ENDINGS):
            raise ValueError(f"--out is {self.out!r}; its ending says the format: {' or '.join(ENDINGS)}")


LINE = CommandLine("compare", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, compare_evaluations)


def compare_evaluations(request: Request) -> int:
    comparisons = compare(read_columns(request.workdirs, request.names), request.metrics)
    summary = summarise(comparisons)
    texts = [as_text(comparison) for comparison in comparisons]
    print("\n\n".join([*texts, *([] if summary is None else [summary_text(summary)])]))
    if request.out:
        write = as_html if request.out.endswith(".html") else as_latex
        storage.write_text_atomic(request.out, write(comparisons, summary))
    return 0
