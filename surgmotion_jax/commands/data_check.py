"""Looks a data set over: cases, frames and classes of each split, and everything that is wrong.

Exit code 2 where something is wrong. Without --benchmark, lists the benchmarks; with --benchmark alone, tells the
layout on disk.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import Benchmark
from surgmotion_jax.benchmarks.check import Findings, check
from surgmotion_jax.commands.command_line import CommandLine, flag, switch

PROBLEMS = 2
"""Exit code where a data set cannot be used as it is."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    benchmark: str | None = flag("NAME", "which data set", default=None)
    root: str | None = flag("DIR", "its folder, or tfds:FOLDER where one was built", default=None)
    protocol: str | None = flag("P", "which of its splits or folds (default: the first)", default=None)
    decode: bool = switch("also decode every scored frame, mask and depth map")
    json: bool = switch("one JSON object instead of the table")

    def __post_init__(self) -> None:
        if self.benchmark is None and self.root is not None:
            raise ValueError("--root without --benchmark; name the data set, see surgmotion data check for the list.")


LINE = CommandLine("data check", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, data_check)


def data_check(request: Request) -> int:
    if request.benchmark is None:
        print("\n".join(listing([catalogue.get(name) for name in catalogue.names()])))
        return 0
    if request.root is None:
        print("\n".join(layout(catalogue.get(request.benchmark))))
        return 0
    benchmark = catalogue.get(request.benchmark, request.root)
    findings = check(benchmark, Path(request.root).expanduser(), request.protocol, request.decode)
    print(json.dumps(dataclasses.asdict(findings), indent=2) if request.json else "\n".join(table(findings)))
    return PROBLEMS if findings.problems else 0


def layout(benchmark: Benchmark) -> Iterator[str]:
    """How a benchmark lies on disk, and which of its protocols there are."""
    yield f"{benchmark.title}: protocols {', '.join(benchmark.protocols)}"
    yield benchmark.layout
    for name, members in benchmark.pooled.items():
        yield f"surgmotion evaluate --protocol={name} pools {', '.join(members)}"


def listing(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    """One line for each benchmark."""
    yield f"{'name':<20} {'family':<13} {'title':<26} protocols"
    for row in benchmarks:
        yield f"{row.name:<20} {row.family:<13} {row.title:<26} {', '.join(row.protocols)}"


def table(findings: Findings) -> Iterator[str]:
    """The findings as a person reads them."""
    yield f"{findings.benchmark}, protocol {findings.protocol}, {findings.root}"
    yield f"{'split':<7}{'cases':>7}{'groups':>8}{'frames':>10}{'scored':>9}"
    for row in findings.splits:
        yield f"{row.split:<7}{row.cases:>7}{row.groups:>8}{row.frames:>10}{row.moments:>9}"
    yield from classes(findings)
    yield from shares(findings)
    for note in findings.notes:
        yield f"note: {note}"
    for problem in findings.problems:
        yield f"PROBLEM: {problem}"
    yield f"{len(findings.problems)} problems" if findings.problems else "no problems"


def classes(findings: Findings) -> Iterator[str]:
    """Scored moments of each class in each split."""
    names = dict.fromkeys(name for row in findings.splits for name in row.classes)
    if not names:
        return
    width = max(map(len, names))
    yield ""
    yield f"{'class':<{width}}" + "".join(f"{row.split:>9}" for row in findings.splits)
    for name in names:
        yield f"{name:<{width}}" + "".join(f"{row.classes.get(name, 0):>9}" for row in findings.splits)
    yield ""


def shares(findings: Findings) -> Iterator[str]:
    """Share of pixels of each mask in each split, where frames were decoded."""
    for name in dict.fromkeys(name for row in findings.splits for name in row.shares):
        told = ", ".join(f"{row.split} {row.shares[name]:.2%}" for row in findings.splits if name in row.shares)
        yield f"pixels of {name}: {told}"
