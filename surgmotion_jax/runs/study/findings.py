"""What a study has found so far, read from the records of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.strengths import Measured, Place, measured, scores
from surgmotion_jax.pages.study import StudyPage
from surgmotion_jax.runs.study.config import Cell, StudyConfig, cells
from surgmotion_jax.runs.study.pictures import read_strips
from surgmotion_jax.runs.study.record import CellRecord, key_of, measure_of, read_record

Known = tuple[Cell, CellRecord]


def find(config: StudyConfig, workdir: str, command: str) -> StudyPage:
    """Reads what there is of a study. Raises ValueError for a record that is none."""
    place = Path(workdir)
    every = [(cell, read_record(place, cell)) for cell in cells(config)]
    done = [(cell, record) for cell, record in every if not record.lacks(config)]
    whole = [(cell, record) for cell, record in done if cell.share == 1]
    failures = {key_of(cell): record.failed for cell, record in every if record.failed}
    found = dict(_measured(config, whole))
    compared = (config.compared[0], config.compared[1])
    fewer = {
        (arm, task, share): one.value() * one.sign
        for share in config.shares
        for (arm, task, _), one in _measured(config, [known for known in done if known[0].share == share])
    }
    return StudyPage(
        scores(found, compared, resamples=config.resamples),
        {where: one.sign * one.value() for where, one in found.items()},
        fewer,
        {key_of(cell): record.learnt for cell, record in whole if cell.arm not in (RANDOM, TUNED)},
        failures,
        read_strips(place),
        compared,
        sum(record.seconds for _, record in every) / 3600,
        len(done) + len(failures),
        len(every),
        command,
    )


def _measured(config: StudyConfig, done: Sequence[Known]) -> Iterator[tuple[Place, Measured]]:
    """Every arm by every measure at every strength, its seeds together."""
    for arm, strength in dict.fromkeys((cell.arm, cell.strength) for cell, _ in done):
        of_arm = [record for cell, record in done if (cell.arm, cell.strength) == (arm, strength)]
        for task, settings in config.tasks.items():
            for metric in settings.measures:
                name = measure_of(task, metric)
                yield (arm, name, strength), measured([record.values[name] for record in of_arm])
