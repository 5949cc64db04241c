"""JIGSAWS: surgical skill on bench-top tasks, 8 users, up to 5 trials of each of 3 tasks, scored by GRS.

Gao et al., "JHU-ISI Gesture and Skill Assessment Working Set", M2CAI 2014. Of the two views of the stereo camera
(capture1, capture2) the first is read, so that no trial counts twice. The four folds are read from the user's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks import frames, splits
from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tables import Row, read_table
from surgmotion_jax.data.decode import probe
from surgmotion_jax.data.media import UnreadableVideo

LAYOUT = (
    "TASK/video/TASK_U00N_capture1.avi (or .mp4) and TASK/meta_file_TASK.txt for TASK in Suturing, Knot_Tying,"
    " Needle_Passing; for the fold protocols also folds.csv with the columns trial,fold"
)

TASKS = ("Suturing", "Knot_Tying", "Needle_Passing")
USERS = "BCDEFGHI"
SUPER_TRIALS = (1, 2, 3, 4, 5)
FOLDS = (1, 2, 3, 4)
ITEMS = (
    "respect for tissue",
    "suture/needle handling",
    "time and motion",
    "flow of operation",
    "overall performance",
    "quality of final product",
)
"""Items of the global rating scale, 1 to 5 each, in the order of the meta files."""

META_COLUMNS = ("trial", "experience", "grs", *ITEMS)
SUFFIXES = (".avi", ".mp4")
POOLED = {
    "louo": tuple(f"louo_{user}" for user in USERS),
    "loso": tuple(f"loso{trial}" for trial in SUPER_TRIALS),
    "folds": tuple(f"fold{fold}" for fold in FOLDS),
}
PROTOCOLS = tuple(protocol for members in POOLED.values() for protocol in members)


def read(root: Path, protocol: str) -> Contents:
    """All trials of the tasks on disk; `louo_B` tests on user B, `loso1` on every user's first trial.

    One more user, super-trial, or fifth of the trials is held out for validation. Raises BenchmarkError for anything
    that is not as the layout says.
    """
    tasks = [task for task in TASKS if (root / task).is_dir()]
    if not tasks:
        raise BenchmarkError(frames.folder(root, LAYOUT), "no folder of a task", LAYOUT, "check --root")
    cases, absent = [], []
    for task in tasks:
        rows = _rows(root / task / f"meta_file_{task}.txt", task)
        videos = _videos(root / task / "video", task, rows)
        cases += [_case(videos[trial], task, row) for trial, row in rows.items() if trial in videos]
        absent += sorted(set(rows) - set(videos))
    split_of = _splits([case.group for case in cases], protocol, root)
    return Contents("jigsaws", protocol, {"task": TASKS}, splits.by_split(cases, split_of), tuple(absent))


def user_of(trial: str) -> str:
    """The letter of Suturing_B001."""
    return trial[-4]


def super_trial_of(trial: str) -> str:
    """The number of Suturing_B001: 1."""
    return str(int(trial[-3:]))


def validation_user(tested: str) -> str:
    """The user to validate on when another is left out for testing."""
    return next(iter(splits.hold_out_validation([user for user in USERS if user != tested], count=1)))


def _splits(trials: list[str], protocol: str, root: Path) -> dict[str, str]:
    """Split of each trial. What is tested together is never validated apart: a user, or a super-trial."""
    unit_of: Callable[[str], str] = str
    units: Iterable[str] = trials
    if protocol.startswith("louo_"):
        unit_of, units, tested = user_of, USERS, {protocol.removeprefix("louo_")}
    elif protocol.startswith("loso"):
        unit_of, units, tested = super_trial_of, map(str, SUPER_TRIALS), {protocol.removeprefix("loso")}
    else:
        fold_of = read_folds(root / "folds.csv", trials)
        tested = {trial for trial in trials if f"fold{fold_of[trial]}" == protocol}
    rest = [unit for unit in units if unit not in tested]
    held = splits.hold_out_validation(rest, count=1 if unit_of is not str else None)
    names = {unit: "test" if unit in tested else "val" if unit in held else "train" for unit in {*rest, *tested}}
    return {trial: names[unit_of(trial)] for trial in trials}


def read_folds(path: Path, trials: Iterable[str]) -> dict[str, int]:
    """Fold of each trial. Raises BenchmarkError for a trial without a fold, or with two."""
    found: dict[str, int] = {}
    for row in read_table(path, ("trial", "fold")):
        trial = row.text("trial")
        if trial in found:
            raise row.error(f"{trial} again", "one fold for each trial", "keep one of the lines")
        found[trial] = row.integer("fold", FOLDS[0], FOLDS[-1])
    for trial in trials:
        if trial not in found:
            raise BenchmarkError(path, f"no line for {trial}", "a fold for every trial", "add the line")
    return found


def _rows(path: Path, task: str) -> dict[str, Row]:
    """Lines of a meta file by trial."""
    found: dict[str, Row] = {}
    for row in read_table(path, META_COLUMNS, delimiter=None, header=False):
        trial = row.text("trial")
        # A name of another user or task would be split wrongly, so none is let through.
        if trial[:-4] != f"{task}_" or trial[-4] not in USERS or trial[-3:] not in {f"{n:03d}" for n in SUPER_TRIALS}:
            asks = f"{task}_ with a user of {USERS} and a trial 001 to 005"
            raise row.error(f"trial {trial!r}", asks, "correct the name")
        if trial in found:
            raise row.error(f"{trial} again", "one line for each trial", "keep one of the lines")
        found[trial] = row
    return found


def _videos(folder: Path, task: str, rows: Iterable[str]) -> dict[str, Path]:
    """The first view of each trial."""
    known = set(rows)
    found: dict[str, Path] = {}
    for path in sorted(frames.folder(folder, LAYOUT).iterdir()):
        trial = path.stem.removesuffix("_capture1")
        if trial == path.stem or path.name.startswith("."):
            continue
        if path.suffix not in SUFFIXES:
            asks = f"one of {', '.join(SUFFIXES)}"
            raise BenchmarkError(path, f"the ending {path.suffix!r}", asks, "convert the video")
        if trial in found:
            raise BenchmarkError(path, f"{trial} again, beside {found[trial].name}", "one video", "remove one of them")
        if trial not in known:
            raise BenchmarkError(
                folder.parent / f"meta_file_{task}.txt", f"no line for {trial}", f"one for {path.name}", "add the line"
            )
        found[trial] = path
    return found


def _case(video: Path, task: str, row: Row) -> Case:
    """A trial, scored at its last frame."""
    row.choice("experience", ("N", "I", "E"))
    items = [row.integer(item, 1, 5) for item in ITEMS]
    total = row.integer("grs")
    if total != sum(items):
        asks = f"the sum of its six items, {sum(items)}"
        raise row.error(f"a GRS of {total}", asks, "compare the line with the original file")
    try:
        info = probe(str(video))
    except UnreadableVideo as error:
        raise BenchmarkError(video, error.reason, "a video that can be decoded", "get the file again") from error
    labels = {
        "grs": np.array([float(total)]),
        "items": np.array([items]),
        "task": np.array([TASKS.index(task)]),
    }
    last_s = max(0.0, info.duration_s - 1 / info.fps)
    trial = row.cells["trial"]
    return Case(trial, trial, VideoFrames(video), np.array([last_s]), labels, annotation=row.file)


BENCHMARK = Benchmark("jigsaws", "JIGSAWS", "skill", "grs", LAYOUT, PROTOCOLS, read, POOLED)
