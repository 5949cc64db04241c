"""Which candidate is reported: decided on validation cases, and written down before any test label is read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.evaluate.heads.predictors import Tables
from surgmotion_jax.evaluate.tasks.task import Task, value_of

CHOICE_FILE = "choice.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Choice:
    """The candidate that was chosen, and by what."""

    number: int  # of the chosen candidate
    names: tuple[str, ...]  # of all candidates
    metric: str
    convention: str
    values: tuple[float | None, ...]  # on the validation cases, by candidate; None where undefined
    cases: tuple[str, ...]  # the validation cases

    @property
    def name(self) -> str:
        """Of the chosen candidate."""
        return self.names[self.number]

    @property
    def value(self) -> float:
        """Of the chosen candidate."""
        value = self.values[self.number]
        return math.nan if value is None else value


def choose(task: Task, names: Sequence[str], tables: Tables, cases: Sequence[str], lost: Sequence[int] = ()) -> Choice:
    """The candidate with the best value of the task's measure; of equals, the first. Those that are `lost` have none.

    Raises ValueError where the validation cases leave the measure undefined for every candidate.
    """
    found = [value_of(task.measures(candidate), task.choice, len(candidate)) for candidate in tables]
    values = [math.nan if n in lost else value for n, (value, _) in enumerate(found)]
    number = best(values, found[0][1])
    metric, convention = task.choice
    if number is None:
        raise ValueError(
            f"{metric} ({convention}) is undefined on the validation cases {', '.join(cases[:4])}: no head can be "
            "chosen; validate on cases that have the classes"
        )
    shown = tuple(value if math.isfinite(value) else None for value in values)
    return Choice(number, tuple(names), metric, convention, shown, tuple(cases))


def best(values: Sequence[float], higher: bool) -> int | None:
    """Number of the best finite value, the first of equals; None where there is none."""
    finite = [n for n, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return None
    return max(finite, key=lambda n: (values[n] if higher else -values[n], -n))


def write_choice(workdir: storage.PathLike, choice: Choice) -> None:
    """Writes `choice.json`."""
    fields = {
        "schema_version": SCHEMA_VERSION,
        "chosen": {"number": choice.number, "name": choice.name},
        "metric": choice.metric,
        "convention": choice.convention,
        "candidates": [{"name": n, "value": v} for n, v in zip(choice.names, choice.values, strict=True)],
        "validation_cases": list(choice.cases),
    }
    storage.write_text_atomic(storage.as_path(workdir) / CHOICE_FILE, json.dumps(fields, indent=1) + "\n")


def read_choice(workdir: storage.PathLike) -> Choice | None:
    """The choice that was written down, None where there is none. Raises ValueError for another schema or damage."""
    path = storage.as_path(workdir) / CHOICE_FILE
    if not path.exists():
        return None
    fields = storage.read_json(path)
    try:
        if fields["schema_version"] != SCHEMA_VERSION:
            raise KeyError("schema_version")
        names, values = zip(*((c["name"], c["value"]) for c in fields["candidates"]), strict=True)
        number = int(fields["chosen"]["number"])
        return Choice(number, names, fields["metric"], fields["convention"], values, tuple(fields["validation_cases"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a choice of schema {SCHEMA_VERSION} ({error}); use a new --workdir") from None
