"""Which checkpoint of a run is the best so far: a small file beside the steps, `best.json`."""

from __future__ import annotations

import dataclasses
import json
import math

from surgmotion_jax import storage

BEST_FILE = "best.json"
BEST_NAME = "best"


@dataclasses.dataclass(frozen=True)
class Best:
    """The step at which a metric was highest."""

    step: int
    metric: str
    value: float


def read_best(directory: storage.PathLike) -> Best | None:
    """The best checkpoint of a directory of steps, or None. Raises ValueError naming a file that does not say one."""
    path = storage.as_path(directory) / BEST_FILE
    if not path.exists():
        return None
    found = storage.read_json(path)
    names = {field.name for field in dataclasses.fields(Best)}
    if not isinstance(found, dict) or set(found) != names or not isinstance(found["step"], int):
        raise ValueError(
            f"{path}: found {json.dumps(found)[:80]}; it should hold {', '.join(sorted(names))}. Delete it: then no "
            "checkpoint counts as the best until the next probe."
        )
    return Best(**found)


def write_best(directory: storage.PathLike, best: Best) -> None:
    """Replaces the file. Raises ValueError for a value that is not finite."""
    if not math.isfinite(best.value):
        raise ValueError(f"{best.metric} at step {best.step} is {best.value}; the best checkpoint needs a finite value")
    storage.write_text_atomic(storage.as_path(directory) / BEST_FILE, json.dumps(dataclasses.asdict(best)))


def forget_best(directory: storage.PathLike, after: int) -> None:
    """Removes the file if it names a step later than `after`."""
    best = read_best(directory)
    if best is not None and best.step > after:
        (storage.as_path(directory) / BEST_FILE).unlink()
