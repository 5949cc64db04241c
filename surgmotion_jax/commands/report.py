"""Writes one self-contained HTML page about a pretraining run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands.command_line import CommandLine, flag, positional
from surgmotion_jax.report.build import build_report


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    workdir: str = positional("WORKDIR", "folder of a pretraining run")
    out: str | None = flag("FILE", "file to write (default: WORKDIR/report.html)", default=None)


LINE = CommandLine("report", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, report)


def report(request: Request) -> int:
    print(f"report: {build_report(request.workdir, request.out)}")
    return 0
