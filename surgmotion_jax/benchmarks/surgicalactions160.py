"""SurgicalActions160: 160 clips of 16 actions in gynaecologic laparoscopy (Schoeffmann et al., Multimedia Tools and
Applications 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import subfolders, video_file
from surgmotion_jax.benchmarks.splits import draw_order, hold_out_cases
from surgmotion_jax.data.images import natural_key
from surgmotion_jax.data.sources import VIDEO_SUFFIXES

CLASS_COUNT = 16
FOLDS = 4
SEED = 42
LAYOUT = """ROOT/
  ACTION/*.mp4    16 folders, named by their actions; ids follow the sorted names
Four folds with every action spread evenly over them; a protocol tests on one and validates on a fifth of the others."""


def read(root: Path, protocol: str) -> Contents:
    """All clips; `fold0` to `fold3` name the fold to test on."""
    # What lies beside the folders of clips is not an action.
    folders = [path for path in subfolders(root, LAYOUT) if any(f.suffix in VIDEO_SUFFIXES for f in path.iterdir())]
    if len(folders) != CLASS_COUNT:
        raise BenchmarkError(
            root, f"{len(folders)} folders of clips", f"{CLASS_COUNT}, one for each action", "restore the set"
        )
    folders = sorted(folders, key=lambda folder: folder.name)
    cases = [_cases(folder, action) for action, folder in enumerate(folders)]
    fold_of = folds([[case.id for case in members] for members in cases])
    test = int(protocol.removeprefix("fold"))
    everything = [case for members in cases for case in members]
    tested = tuple(case for case in everything if fold_of[case.id] == test)
    rest = hold_out_cases([case for case in everything if fold_of[case.id] != test], stratify="action")
    return Contents(BENCHMARK.name, protocol, {"action": tuple(f.name for f in folders)}, {**rest, "test": tested})


def folds(ids_by_class: Sequence[Sequence[str]]) -> dict[str, int]:
    """Fold of each clip. Dealing goes on from class to class, so that folds differ by one clip at most, in all and
    within a class."""
    dealt = [name for ids in ids_by_class for name in draw_order(ids, SEED)]
    return {name: place % FOLDS for place, name in enumerate(dealt)}


def _cases(folder: Path, action: int) -> list[Case]:
    files = sorted((path for path in folder.iterdir() if path.name[0] != "."), key=lambda path: natural_key(path.name))
    if not files:
        raise BenchmarkError(folder, "no clip", "*.mp4", "restore the folder")
    return [
        clip_case(f"{folder.name}/{path.stem}", video_file(path.with_suffix(".mp4")), "action", action)
        for path in files
    ]


PROTOCOLS = tuple(f"fold{fold}" for fold in range(FOLDS))
BENCHMARK = Benchmark(
    "surgicalactions160", "SurgicalActions160", "action", "action", LAYOUT, PROTOCOLS, read, {"folds": PROTOCOLS}
)
