"""Runs a study: arms times seeds times strengths of nuisance, the most important first, and writes what was found.

Everything is simulated. Each arm is pretrained with the same operations, and evaluated beside random weights and the
same encoder trained end to end. Repeat the command to go on. After each cell it writes study.html, study.md and the
figure, study.svg. Several processes may work in one folder, on seeds of their own: --cells='*-0*' and --cells='*-1'.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag, switch
from surgmotion_jax.commands.configs import study_config
from surgmotion_jax.pages.study import StudyPage, as_html, as_markdown, chart_of, verdict
from surgmotion_jax.report.svg import chart_file
from surgmotion_jax.runs.study.findings import find
from surgmotion_jax.runs.study.work import begin, study


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("study", "a config file or the name of a shipped one: study/laptop")
    workdir: str = flag("DIR", "everything goes here")
    hours: float = flag("H", "no cell is begun after so many; 0: no limit", default=0.0, least=0)
    cells: str = flag("PATTERN", "only cells of such names, STRENGTH/ARM-SEED: '*-1' are those of a seed", default="*")
    page_only: bool = switch("write the pages of what there is, and do nothing else")
    workers: int = flag("N", "processes that simulate; 0 draws in this one", default=0, least=0)


LINE = CommandLine("study run", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, study_run)


def study_run(request: Request) -> int:
    config = study_config(request.config)
    command = f"surgmotion study run {' '.join(request.config)} --workdir={request.workdir}"

    def written() -> StudyPage:
        found = find(config, request.workdir, command)
        folder = storage.as_path(request.workdir)
        storage.write_text_atomic(folder / "study.html", as_html(found))
        storage.write_text_atomic(folder / "study.md", as_markdown(found))
        if found.scores.curves:
            storage.write_text_atomic(folder / "study.svg", chart_file(chart_of(found.scores)))
        return found

    if request.page_only:
        begin(config, Path(request.workdir))
    else:
        hours, workers, only = request.hours, request.workers, request.cells
        study(config, request.workdir, _say, hours=hours, workers=workers, only=only, after=written)
    found = written()
    print("\n".join(verdict(found)))
    left = found.cells - found.done
    print(f"{request.workdir}/study.html" + (f"; {left} cells are left: repeat the command to go on" if left else ""))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
