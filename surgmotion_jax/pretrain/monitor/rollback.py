"""Rollbacks of a run: what it went back from, and how much data it passes over because of them.

After a rollback the same steps would meet the same batches. So the data move on instead: step s takes the clips and
masks that a run without rollbacks would take at step `s + passed_over`. The batches between the checkpoint and the
alarm are met only once, and the position in the data stays a pure function of the step and of this record, which lies
beside the checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from surgmotion_jax import storage

ROLLBACKS_FILE = "rollbacks.json"


@dataclasses.dataclass(frozen=True)
class Rollback:
    """From the step of an alarm back to the checkpoint of a step."""

    alarm_step: int
    step: int
    reason: str


def passed_over(rollbacks: Sequence[Rollback]) -> int:
    """Steps' worth of data that these rollbacks gave up."""
    return sum(one.alarm_step - one.step for one in rollbacks)


def read_rollbacks(workdir: storage.PathLike) -> tuple[Rollback, ...]:
    """The rollbacks of a run so far, oldest first. Raises ValueError naming the file if it is not such a record."""
    path = storage.as_path(workdir) / ROLLBACKS_FILE
    if not path.exists():
        return ()
    found = storage.read_json(path)
    try:
        if not isinstance(found, list):
            raise TypeError(f"it holds a {type(found).__name__}")
        rollbacks = tuple(Rollback(**one) for one in found)
        if any(not 0 <= one.step < one.alarm_step for one in rollbacks):
            raise TypeError("a step that is not before its alarm")
    except TypeError as error:
        raise ValueError(
            f"{path}: not a list of rollbacks ({error}); each has alarm_step, step and reason. Restore the file: "
            "without it the run would meet data again that it has passed over."
        ) from None
    return rollbacks


def write_rollbacks(workdir: storage.PathLike, rollbacks: Sequence[Rollback]) -> None:
    """Replaces the record, whole or not at all."""
    path = storage.as_path(workdir) / ROLLBACKS_FILE
    storage.write_text_atomic(path, json.dumps([dataclasses.asdict(one) for one in rollbacks], indent=1))
