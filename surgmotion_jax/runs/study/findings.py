"""What a study has found so far, read from its folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.seeds import read_column
from surgmotion_jax.evaluate.compare.strengths import Measured, Place, measured, scores
from surgmotion_jax.pages.study import StudyPage
from surgmotion_jax.pretrain.ablation import Outcome, outcome
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.ablation import trial_at
from surgmotion_jax.runs.study.config import VIDEOS, Cell, StudyConfig, cells
from surgmotion_jax.runs.study.pictures import read_strips
from surgmotion_jax.runs.study.work import (
    evaluated,
    extent_of,
    key_of,
    pretrained,
    pretraining_of,
    read_note,
    result_folder,
    world_folder,
)


def find(config: StudyConfig, workdir: str, command: str) -> StudyPage:
    """Reads what there is of a study. Raises ValueError as reading an evaluation does."""
    place = Path(workdir)
    all_cells = cells(config)
    done = [cell for cell in all_cells if evaluated(config, cell, place)]
    notes = {key_of(cell): read_note(place, cell) for cell in all_cells}
    failures = {key: note.failed for key, note in notes.items() if note.failed}
    whole = [cell for cell in done if cell.share == 1]
    found = dict(_measured(config, whole, place))
    values = {where: one.sign * one.value() for where, one in found.items()}
    compared = (config.compared[0], config.compared[1])
    made = scores(found, compared, resamples=config.resamples)
    hours = sum(note.seconds for note in notes.values()) / 3600
    outcomes = dict(_outcomes(config, whole, place))
    ended = len(done) + len(failures)
    fewer = {
        (arm, task, share): one.sign * one.value()
        for share in config.shares
        for (arm, task, _), one in _measured(config, [cell for cell in done if cell.share == share], place)
    }
    strips = read_strips(place)
    return StudyPage(made, values, fewer, outcomes, failures, strips, compared, hours, ended, len(all_cells), command)


def _measured(config: StudyConfig, done: Sequence[Cell], place: Path) -> Iterator[tuple[Place, Measured]]:
    """Every arm by every measure at every strength, its seeds together."""
    for arm, strength in dict.fromkeys((cell.arm, cell.strength) for cell in done):
        of_arm = [cell for cell in done if (cell.arm, cell.strength) == (arm, strength)]
        for name, task in config.tasks.items():
            column = read_column(f"{arm}, {strength:g}", [str(result_folder(place, c, name)) for c in of_arm])
            for metric in task.measures:
                yield (arm, f"{name} {metric}", strength), measured(column, metric, task.operation)


def _outcomes(config: StudyConfig, done: Sequence[Cell], place: Path) -> Iterator[tuple[str, Outcome | None]]:
    """What pretraining came to; None for a run that did not reach its last step."""
    for cell in done:
        if cell.arm not in (RANDOM, TUNED):
            folder = pretrained(place, cell)
            base = pretraining_of(config, world_folder(place, cell.strength, VIDEOS))
            trial = trial_at(cell.arm, base, storage.as_path(folder.parent), {"seed": str(cell.seed)}, extent_of(cell))
            yield key_of(cell), outcome(trial.name, trial.config, read_metrics(folder), trial.title)
