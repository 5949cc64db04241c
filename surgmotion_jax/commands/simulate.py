"""`surgmotion simulate --layout=NAME --out=DIR [--cases=N] [--minutes=M] [...]`

Writes simulated operations as a public data set lies on disk, their truth beside them, and a preview picture.

  --layout=NAME       a benchmark, or `pretrain` for a mixed folder of videos
  --out=DIR           a new or empty folder
  --cases=N           how many cases (default: 6)
  --minutes=M         length of each (default: 1)
  --seed=S            same seed, same pictures (default: 0)
  --size=P or HxW     pixels, even (default: 256)
  --fps=F             frames a second that are drawn (default: the layout's, lower than a camera's: drawing takes time)
  --nuisance=X        smoke, glints, fluid, smudges: 0 none to 1 strong (default: 0.5)
  --difficulty=X      0 easy to 1 hard (default: 0.5)
  --workers=W         processes (default: one for each core; 0 draws in this one)
  --dense             also store depth, masks and flow once a second in truth/
  --no-preview        no preview.jpg
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from surgmotion_jax import storage

if TYPE_CHECKING:
    from surgmotion_jax.simulate.case import Frame
    from surgmotion_jax.simulate.generate import SetConfig
    from surgmotion_jax.simulate.layouts.layout import SimulatedCase

PREVIEW_FRAMES = 5


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        from surgmotion_jax.simulate.layouts.layout import LAYOUTS

        print(__doc__)
        print("layouts:", ", ".join(LAYOUTS))
        return 0
    given = read_request(argv)
    config, out = set_config(given), Path(given.out).expanduser()
    from surgmotion_jax.simulate.generate import generate

    workers = _cores() if given.workers is None else given.workers
    started = time.perf_counter()
    cases = generate(config, out, workers, _progress())
    if given.preview:
        write_preview(cases, out / "preview.jpg")
    seconds = time.perf_counter() - started
    frames = sum(case.script.frames for case in cases)
    print(f"simulated {len(cases)} cases, {frames} frames as {config.layout} in {seconds:.0f} s: {out}")
    return 0


def read_request(argv: Sequence[str]) -> argparse.Namespace:
    """Reads a command line. Raises ValueError for anything unknown, missing or out of range."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--layout")
    parser.add_argument("--out")
    parser.add_argument("--size", default="256")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fps", type=float)
    parser.add_argument("--nuisance", type=float, default=0.5)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--no-preview", dest="preview", action="store_false")
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion simulate --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion simulate --help.")
    for name in ("layout", "out"):
        if not getattr(given, name):
            raise ValueError(f"--{name} is missing; see surgmotion simulate --help.")
    if given.seed < 0 or (given.workers or 0) < 0:
        raise ValueError(f"--seed is {given.seed}, --workers is {given.workers}; neither may be below 0.")
    return given


def set_config(given: argparse.Namespace) -> SetConfig:
    """The data set that a command line asks for. Raises ValueError for a size that is none."""
    from surgmotion_jax.simulate.generate import SetConfig

    size = re.fullmatch(r"(\d+)(?:x(\d+))?", given.size)
    if size is None:
        raise ValueError(f"--size is {given.size!r}; write pixels, as 256 or 240x320 (height x width).")
    height, width = int(size[1]), int(size[2] or size[1])
    return SetConfig(
        given.layout, given.cases, 60 * given.minutes, given.seed, height, width, given.fps, given.nuisance,
        given.difficulty, given.dense,
    )  # fmt: skip


def write_preview(cases: Sequence[SimulatedCase], path: Path) -> None:
    """A few frames with their labels and truth drawn on: of the first case, or one each of the first cases where
    whole cases are labelled."""
    from PIL import Image

    from surgmotion_jax.simulate.preview import contact_sheet

    if cases[0].plan.label is None:
        frames = cases[0].script.frames
        shown = [(cases[0], (2 * n + 1) * frames // (2 * PREVIEW_FRAMES)) for n in range(min(PREVIEW_FRAMES, frames))]
    else:
        shown = [(case, case.script.frames // 2) for case in cases[:PREVIEW_FRAMES]]
    file = io.BytesIO()
    sheet = contact_sheet(list(draw_frames(shown)), [caption(case, number) for case, number in shown])
    Image.fromarray(sheet).save(file, "JPEG", quality=85)
    storage.write_bytes_atomic(path, file.getvalue())


def draw_frames(shown: Sequence[tuple[SimulatedCase, int]]) -> Iterator[Frame]:
    """Single frames of cases; those of one case share its scene."""
    from surgmotion_jax.simulate.render import build_scene, render

    scene = None
    for case, number in shown:
        if scene is None or scene.script is not case.script:
            scene = build_scene(case.script)
        yield from render(case.script, number, number + 1, scene=scene)


def caption(case: SimulatedCase, frame: int) -> str:
    """What the labels say of one frame."""
    from surgmotion_jax.simulate.case import triplet_ids

    label = "" if case.plan.label is None else f", label {case.plan.label}"
    triplets = ", ".join(map(str, triplet_ids(case.script, frame))) or "none"
    return f"{case.id}{label} at {frame / case.fps:.1f} s\nphase {case.script.phase_T[frame]}, triplets {triplets}"


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
