"""Does the work of a study, cell by cell: simulates what is missing, pretrains, evaluates. Repeated, it goes on.

worlds/STRENGTH/LAYOUT/          what is simulated
pretrained/STRENGTH/ARM-seed=N/  workdirs of pretraining
results/STRENGTH/TASK/ARM-N/     workdirs of evaluations
pictures/ARM.png                 features as colours
cells/STRENGTH/ARM-N.json        what came of a cell: every number of the page

Several processes may share a folder where each has seeds of its own, as --cells='*-0*' and --cells='*-1' say. A world
is made by the first that needs it, while the others wait.
"""

from __future__ import annotations

import dataclasses
import fcntl
import fnmatch
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.seeds import read_column
from surgmotion_jax.evaluate.compare.strengths import by_operation
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.results import RESULTS_FILE
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.pages.study import Learnt
from surgmotion_jax.pretrain.ablation import outcome
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.rows import all_rows
from surgmotion_jax.pretrain.trials import name_of
from surgmotion_jax.records import read_metrics
from surgmotion_jax.registry import TERMINATED
from surgmotion_jax.runs.ablation import TEACHER, Extent, ablate, trial_at
from surgmotion_jax.runs.configuration import override_of, read_config, with_data
from surgmotion_jax.runs.evaluation import evaluate_source, open_source
from surgmotion_jax.runs.study.config import VIDEOS, Cell, StudyConfig, StudyTask, cells
from surgmotion_jax.runs.study.pictures import write_strips
from surgmotion_jax.runs.study.record import CELLS, CellRecord, key_of, learnt_of, measure_of, read_record, write_record
from surgmotion_jax.simulate.generate import SetConfig, generate

CONFIG_FILE = "study.config.json"
ADDED = ("worlds", "tasks")  # more of these may be added to a study, and those that it has stay as they are
Say = Callable[[str], None]


def study(
    config: StudyConfig,
    workdir: str,
    say: Say,
    *,
    hours: float = 0.0,
    workers: int = 0,
    only: str = "*",
    after: Callable[[], object] = lambda: None,
) -> bool:
    """Does what is left of a study, and calls `after` for each finished cell. Returns whether all of it is done.

    No cell is begun once `hours` are over (0: no limit), nor one whose name the pattern `only` does not match. Raises
    ValueError for a folder that holds another study, and for a pattern that matches no cell.
    """
    started, place = time.time(), Path(workdir)
    chosen = matching(config, only)
    begin(config, place)
    for cell in chosen:
        before = known = read_record(place, cell)
        if before.ended(config):
            continue
        if hours and time.time() - started > 3600 * hours:
            return False
        say(f"== {cell.arm}, seed {cell.seed}, strength {cell.strength:g}")
        begun = time.time()
        try:
            for known in _do(config, cell, before, place, say, workers):
                write_record(place, cell, known)
        finally:
            write_record(place, cell, dataclasses.replace(known, seconds=before.seconds + time.time() - begun))
        after()
    return True


def matching(config: StudyConfig, pattern: str) -> list[Cell]:
    """Cells whose name, as 1/plain-0, matches a pattern of the shell. Raises ValueError where there is none."""
    every = cells(config)
    chosen = [cell for cell in every if fnmatch.fnmatchcase(key_of(cell), pattern)]
    if not chosen:
        raise ValueError(
            f"cells={pattern!r} matches none of the {len(every)} cells, {key_of(every[0])} to {key_of(every[-1])}; a "
            "pattern is as */plain-0 or 1/*: strength, arm, seed"
        )
    return chosen


def begin(config: StudyConfig, place: Path) -> None:
    """Makes the folder, or checks that it holds this study, to which arms, seeds, strengths and tasks may be added."""
    storage.ensure_writable(place)
    path, told = place / CONFIG_FILE, json.loads(json.dumps(dataclasses.asdict(config)))
    free = ("arms", "more", "seeds", "strengths", "shares", "compared", "resamples")
    if path.exists():
        there = storage.read_json(path)
        differing = [name for name in told if name not in (*free, *ADDED) and told[name] != there.get(name)]
        differing += [
            f"{name}.{key}" for name in ADDED for key, of in there[name].items() if told[name].get(key, of) != of
        ]
        if differing:
            raise ValueError(
                f"{place}: holds a study with other {', '.join(differing)}; name another --workdir, or undo the changes"
            )
        for name in ADDED:  # what is left out now is remembered: its results are still there
            told[name] = {**there[name], **told[name]}
    elif (place / CELLS).exists():
        raise ValueError(
            f"{place}: holds records of cells without {CONFIG_FILE}, which says of what study they are; copy it from "
            "the folder that they come from"
        )
    storage.write_text_atomic(path, json.dumps(told, indent=1) + "\n")


def world_folder(place: Path, strength: float, layout: str) -> Path:
    """Where a simulated data set is."""
    return place / "worlds" / f"{strength:g}" / layout


def world(config: StudyConfig, strength: float, layout: str, place: Path, workers: int) -> Path:
    """The folder of a simulated data set, which is made if it is not there, by one process at a time."""
    folder, asked = world_folder(place, strength, layout), config.worlds[layout]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{layout}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        what = SetConfig(
            layout,
            asked.cases,
            60 * asked.minutes,
            config.world + (layout != VIDEOS),  # no operation is both learnt from and tested on
            asked.size,
            asked.size,
            asked.fps or None,
            nuisance=strength,
            zoom=asked.zoom or config.zoom,
            exchange=True,
        )
        aside = folder.with_name(f".{layout}.part")
        generate(what, aside, workers)
        os.replace(aside, folder)
    return folder


def evaluation_of(task: StudyTask, cell: Cell) -> EvaluateConfig:
    """The config of an evaluation. The seed of a cell is that of its head too."""
    changed = dict(map(override_of, task.set)) | {"sweep.seed": cell.seed, "data.fraction": cell.share}
    if cell.arm == TUNED:
        changed |= {"finetune.blocks": "full"} | dict(map(override_of, task.tuned))
    return read_config(EvaluateConfig, task.config, changed)


def pretraining_of(config: StudyConfig, videos: Path) -> PretrainConfig:
    """What all arms share."""
    return door.build(PretrainConfig, with_data(door.load_config(config.pretrain), str(videos)))


def pretrained(place: Path, cell: Cell) -> Path:
    """The workdir of an arm's pretraining."""
    return place / "pretrained" / f"{cell.strength:g}" / name_of(cell.arm, {"seed": str(cell.seed)})


def result_folder(place: Path, cell: Cell, task: str) -> Path:
    """The workdir of an evaluation."""
    return place / "results" / f"{cell.strength:g}" / task / cell.name


def _do(
    config: StudyConfig, cell: Cell, known: CellRecord, place: Path, say: Say, workers: int
) -> Iterator[CellRecord]:
    """What is known of a cell after its pretraining and after each task."""
    checkpoint = f"{config.encoder}:{cell.seed}"
    if cell.arm not in (RANDOM, TUNED):
        pretrain(config, cell, place, workers)
        checkpoint = str(pretrained(place, cell))
        if not (pretrained(place, cell) / "checkpoints").exists():
            yield dataclasses.replace(known, failed="pretraining ended without a checkpoint")
            return
        known = dataclasses.replace(known, learnt=_learnt(config, cell, place))
        yield known
    source = open_source(checkpoint)
    if cell == Cell(cell.arm, config.seeds[0], config.middle) and cell.arm != TUNED:
        _show(config, cell, source, place, workers)  # before the results, which say that a cell is done
    for name in known.lacks(config):
        task, folder = config.tasks[name], result_folder(place, cell, name)
        root = world(config, cell.strength, task.world, place, workers)
        if not (folder / RESULTS_FILE).exists():
            say(f"{name}: {cell.name}")
            evaluate_source(evaluation_of(task, cell), source, root / task.table, folder)
        column = read_column(key_of(cell), [str(folder)])
        found = {measure_of(name, metric): by_operation(column, metric, task.operation) for metric in task.measures}
        known = dataclasses.replace(known, values={**known.values, **found})
        yield known


def _learnt(config: StudyConfig, cell: Cell, place: Path) -> Learnt | None:
    """What the pretraining of a cell came to."""
    folder, base = pretrained(place, cell), pretraining_of(config, world_folder(place, cell.strength, VIDEOS))
    trial = trial_at(cell.arm, base, storage.as_path(folder.parent), {"seed": str(cell.seed)}, extent_of(cell))
    records = read_metrics(folder)
    return learnt_of(outcome(trial.name, trial.config, records, trial.title), records)


def _show(config: StudyConfig, cell: Cell, source: Source, place: Path, workers: int) -> None:
    """Pictures of the features, of windows of the first task."""
    task = next(iter(config.tasks.values()))
    root = world(config, cell.strength, task.world, place, workers) / task.table
    assert source.encoder is not None, "made from a checkpoint"
    write_strips(source.encoder, cell.arm, evaluation_of(task, cell).data, str(root), place)


def pretrain(config: StudyConfig, cell: Cell, place: Path, workers: int) -> None:
    """Trains an arm, unless that was done; one with a frozen teacher after the row that teaches it.

    A run that an alarm ended is evaluated as it is. Raises KeyboardInterrupt, SystemExit and OSError where training was
    interrupted, stopped, or could not be saved.
    """
    base = pretraining_of(config, world(config, cell.strength, VIDEOS, place, workers))
    rows = (TEACHER, cell.arm) if all_rows()[cell.arm].targets == "frozen" else (cell.arm,)
    folder = pretrained(place, cell).parent
    ablated = ablate(base, folder, rows, extent_of(cell), command="surgmotion study run")
    for ending in ablated.endings.values():
        if ending.kind == "interrupted":
            raise KeyboardInterrupt
        if ending.kind == "stopped":
            raise SystemExit(TERMINATED)
        if ending.kind == "unsaved":
            raise OSError(ending.reason)


def extent_of(cell: Cell) -> Extent:
    """One seed, and for every arm the operations of plain V-JEPA."""
    return Extent((f"seed={cell.seed}",), "flops")
