"""`surgmotion data check --benchmark=NAME --root=DIR [--protocol=P] [--decode] [--json]`

Looks a data set over: cases, frames and classes of each split, and everything that is wrong. Exit code 2 where
something is. Without --benchmark, lists the benchmarks; with --benchmark alone, tells the layout on disk.

  --benchmark=NAME   which data set
  --root=DIR         its folder
  --protocol=P       which of its splits or folds (default: the first)
  --decode           also decode every scored frame, mask and depth map
  --json             one JSON object instead of the table
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surgmotion_jax.benchmarks.benchmark import Benchmark
    from surgmotion_jax.benchmarks.check import Findings

PROBLEMS = 2
"""Exit code where a data set cannot be used as it is."""


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    given = read_request(argv)
    from surgmotion_jax.benchmarks import catalogue

    if given.benchmark is None:
        print("\n".join(listing([catalogue.get(name) for name in catalogue.names()])))
        return 0
    benchmark = catalogue.get(given.benchmark)
    if given.root is None:
        print(f"{benchmark.title}: protocols {', '.join(benchmark.protocols)}\n{benchmark.layout}")
        for name, members in benchmark.pooled.items():
            print(f"surgmotion evaluate --protocol={name} pools {', '.join(members)}")
        return 0
    from surgmotion_jax.benchmarks.check import check

    findings = check(benchmark, Path(given.root).expanduser(), given.protocol, given.decode)
    print(json.dumps(dataclasses.asdict(findings), indent=2) if given.json else "\n".join(table(findings)))
    return PROBLEMS if findings.problems else 0


def read_request(argv: Sequence[str]) -> argparse.Namespace:
    """Reads a command line. Raises ValueError for anything unknown or missing."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in ("--benchmark", "--root", "--protocol"):
        parser.add_argument(name)
    parser.add_argument("--decode", action="store_true")
    parser.add_argument("--json", action="store_true")
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion data check --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion data check --help.")
    if given.benchmark is None and given.root is not None:
        raise ValueError("--root without --benchmark; name the data set, see surgmotion data check for the list.")
    return given


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
