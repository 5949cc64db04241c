"""What a study keeps of each cell: a small file, and enough for every number of its page.

cells/STRENGTH/ARM-N.json; copied into another folder with study.config.json, the cell is done there too.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surgmotion_jax import storage
from surgmotion_jax.evaluate.compare.strengths import ByOperation
from surgmotion_jax.pages.study import Learnt
from surgmotion_jax.pretrain.ablation import Outcome, Record
from surgmotion_jax.runs.study.config import Cell, StudyConfig

CELLS = "cells"
DIGITS = 6  # of a value, significant


@dataclass(frozen=True)
class CellRecord:
    """What is known of a cell."""

    seconds: float = 0.0  # all calls together
    failed: str = ""  # why there is nothing to evaluate
    learnt: Learnt | None = None  # in pretraining; None for anchors, and for a run that did not reach its last step
    values: Mapping[str, ByOperation] = field(default_factory=dict)  # by task and measure, as `polyps dice`

    def lacks(self, config: StudyConfig) -> list[str]:
        """Tasks of which a measure is missing."""
        return [
            name
            for name, task in config.tasks.items()
            if not all(measure_of(name, metric) in self.values for metric in task.measures)
        ]

    def ended(self, config: StudyConfig) -> bool:
        """Whether there is nothing left to do."""
        return bool(self.failed) or not self.lacks(config)


def measure_of(task: str, metric: str) -> str:
    """How a measure of a task is called on the page."""
    return f"{task} {metric}"


def learnt_of(outcome: Outcome | None, records: Sequence[Record]) -> Learnt | None:
    """What is shown of a run: its outcome, and held-out gains and ranks over time."""
    if outcome is None:
        return None
    curve = []
    for record in records:
        found = record["metrics"]
        loss, constant = found.get("heldout/loss"), found.get("heldout/constant")
        if record["kind"] == "heldout" and loss is not None and constant:
            curve.append((record["step"], 100 * (1 - loss / constant), found.get("gauge/rankme") or math.nan))
    o = outcome
    return Learnt(o.clips, o.tflop, o.heldout, o.over_constant, o.rankme, o.collapsed, tuple(curve))


def key_of(cell: Cell) -> str:
    """A cell in words and in the name of its file."""
    return f"{cell.strength:g}/{cell.name}"


def read_record(place: Path, cell: Cell) -> CellRecord:
    """What is known of a cell; nothing before it began. Raises ValueError naming a file that is no such record."""
    path = _path(place, cell)
    if not path.exists():
        return CellRecord()
    found = storage.read_json(path)
    try:
        learnt = found["learnt"] and _learnt(found["learnt"])
        values = {name: _values(**one) for name, one in found["values"].items()}
        return CellRecord(float(found["seconds"]), found["failed"], learnt, values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: no record of a cell ({error!r}); delete it, and what is in results/ is read again"
        ) from error


def write_record(place: Path, cell: Cell, record: CellRecord) -> None:
    """Replaces what was known of a cell."""
    told = _rounded(dataclasses.asdict(dataclasses.replace(record, seconds=round(record.seconds, 1))))
    storage.write_text_atomic(_path(place, cell), json.dumps(told, allow_nan=False) + "\n")


def _path(place: Path, cell: Cell) -> Path:
    return place / CELLS / f"{key_of(cell)}.json"


def _values(sign: int, sums: Mapping[str, Sequence[float]]) -> ByOperation:
    return ByOperation(sign, {name: (_number(value), float(count)) for name, (value, count) in sums.items()})


def _learnt(found: Mapping[str, Any]) -> Learnt:
    """A number that was not one is null in the file."""
    curve = tuple((int(step), _number(gain), _number(rank)) for step, gain, rank in found["curve"])
    numbers = {name: _number(found[name]) for name in ("tflop", "heldout", "over_constant", "rankme")}
    return Learnt(clips=found["clips"], collapsed=found["collapsed"], curve=curve, **numbers)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _rounded(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _rounded(one) for name, one in told.items()}
    if isinstance(told, list | tuple):
        return [_rounded(one) for one in told]
    if isinstance(told, float):
        return float(f"{told:.{DIGITS}g}") if math.isfinite(told) else None
    return told
