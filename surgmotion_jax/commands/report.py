"""`surgmotion report WORKDIR [--out FILE]`: one self-contained HTML page about a pretraining run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    from surgmotion_jax.report.build import build_report

    parser = argparse.ArgumentParser(prog="surgmotion report", description=__doc__)
    parser.add_argument("workdir", help="folder of a pretraining run")
    parser.add_argument("--out", help="file to write (default: WORKDIR/report.html)")
    given = parser.parse_args(argv)
    print(f"report: {build_report(given.workdir, given.out)}")
    return 0
