"""Writes simulated operations as a public data set lies on disk, their truth beside them, and a preview picture."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax.commands.command_line import CommandLine, comma_list, flag, switch
from surgmotion_jax.simulate.case import NUISANCES
from surgmotion_jax.simulate.generate import SetConfig, generate
from surgmotion_jax.simulate.layouts.layout import LAYOUTS
from surgmotion_jax.simulate.preview import write_preview


def picture_size(text: str) -> tuple[int, int]:
    """'256' or '240x320' as (height, width). Raises ValueError for anything else, and for odd numbers."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        raise ValueError("write pixels, as 256 or 240x320 (height x width).")
    height, width = int(found[1]), int(found[2] or found[1])
    if height % 2 or width % 2:
        raise ValueError("height and width must be even, since H.264 stores colour for 2 x 2 pixels.")
    return height, width


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    layout: str = flag("NAME", "a benchmark, or `pretrain` for a mixed folder of videos")
    out: str = flag("DIR", "a new or empty folder")
    cases: int = flag("N", "how many cases", default=6)
    minutes: float = flag("M", "length of each", default=1.0)
    seed: int = flag("S", "same seed, same pictures", default=0, least=0)
    size: tuple[int, int] = flag(
        "P or HxW", "pixels, even (default: 256)", default=(256, 256), read=picture_size, show_default=False
    )
    fps: float | None = flag(
        "F",
        "frames a second that are drawn (default: the layout's, lower than a camera's: drawing takes time)",
        default=None,
    )
    nuisance: float = flag("X", "smoke, glints, fluid, smudges: 0 none, 1 strong, up to 2", default=0.5)
    nuisance_to: float | None = flag(
        "X", "cases differ in strength, spread evenly from --nuisance to this (default: all alike)", default=None
    )
    nuisances: tuple[str, ...] = flag(
        "A,B", f"only these of {', '.join(NUISANCES)}", default=NUISANCES, read=comma_list, show_default=False
    )
    difficulty: float = flag("X", "0 easy to 1 hard", default=0.5)
    zoom: float = flag("X", "of the lens, 1 to 4; at 3 instruments fill twice as much of the picture", default=1.0)
    exchange: bool = switch("instruments are exchanged through the ports as phases ask for them")
    workers: int | None = flag(
        "W", "processes (default: one for each core; 0 draws in this one)", default=None, least=0
    )
    dense: bool = switch("also store depth, masks and flow once a second in truth/")
    no_preview: bool = switch("no preview.jpg")


LINE = CommandLine("simulate", __doc__, Request, lambda: f"layouts: {', '.join(LAYOUTS)}")


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, simulate)


def simulate(request: Request) -> int:
    config, out = set_config(request), Path(request.out).expanduser()
    workers = _cores() if request.workers is None else request.workers
    started = time.perf_counter()
    cases = generate(config, out, workers, _progress())
    if not request.no_preview:
        write_preview(cases, out / "preview.jpg")
    seconds = time.perf_counter() - started
    frames = sum(case.script.frames for case in cases)
    print(f"simulated {len(cases)} cases, {frames} frames as {config.layout} in {seconds:.0f} s: {out}")
    return 0


def set_config(request: Request) -> SetConfig:
    """The data set that a command line asks for."""
    return SetConfig(
        request.layout,
        request.cases,
        60 * request.minutes,
        request.seed,
        *request.size,
        request.fps,
        request.nuisance,
        request.difficulty,
        request.nuisance_to,
        request.nuisances,
        request.zoom,
        request.exchange,
        request.dense,
    )


def _progress() -> Callable[[int, int, str], None]:
    """A line that moves on a terminal, a line for each case elsewhere."""
    on_terminal = sys.stderr.isatty()

    def show(done: int, total: int, name: str) -> None:
        end = "\n" if not on_terminal or done == total else ""
        print(
            f"{chr(13) if on_terminal else ''}case {done} of {total}: {name:<24}", end=end, file=sys.stderr, flush=True
        )

    return show


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
