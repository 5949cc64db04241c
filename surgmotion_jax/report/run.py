"""What a workdir tells about its run: metric series, events, and whichever other parts it holds.

Letters: N logged points of one series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.records import METRICS_FILE, read_metrics
from surgmotion_jax.report.snapshot import Snapshot, read_snapshot

CONFIG = "config.json"
CHANGES = "changes.json"
ENVIRONMENT = "environment.json"
SUMMARY = "summary.json"
SNAPSHOT = "snapshot.npz"
EVENT_WORDS = ("start", "resume", "alarm", "rollback", "stopped", "interrupted", "finished")

Read = TypeVar("Read")


@dataclass(frozen=True)
class Entry:
    """One line of the metrics file; `time` in unix seconds, a null metric as NaN."""

    kind: str
    step: int
    time: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    text: str = ""

    @property
    def word(self) -> str:
        """Which of `EVENT_WORDS` an event is; otherwise "note"."""
        first = self.text.strip().split(maxsplit=1)[:1]
        word = first[0].strip(":,.;!").lower() if first else ""
        return word if word in EVENT_WORDS else "note"


@dataclass(frozen=True)
class RunRecord:
    """Everything the report may draw on. A part that is absent or damaged is None and has a sentence
    in `problems`, keyed by its file name."""

    workdir: epath.Path
    entries: tuple[Entry, ...] = ()
    config: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] | None = None  # fields that are not at their defaults: [default, here]
    environment: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    snapshot: Snapshot | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def events(self) -> tuple[Entry, ...]:
        """Events in the order they were written."""
        return tuple(entry for entry in self.entries if entry.kind == "event")

    def series(self, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """`(step_N, value_N)` of one metric in step order; NaN where it was logged as null.

        A step logged twice keeps its last value.
        """
        point = {e.step: e.metrics[name] for e in self.entries if e.kind == kind and name in e.metrics}
        steps = sorted(point)
        return np.array(steps, np.int64), np.array([point[step] for step in steps], np.float64)

    def names(self, kind: str) -> list[str]:
        """Metrics that lines of a kind hold, in the order in which they came first."""
        return list(dict.fromkeys(name for e in self.entries if e.kind == kind for name in e.metrics))

    def sessions(self) -> list[tuple[float, float]]:
        """First and last time of every uninterrupted stretch, in unix seconds."""
        spans: list[tuple[float, float]] = []
        for entry in (entry for entry in self.entries if math.isfinite(entry.time)):
            if not spans or (entry.kind == "event" and entry.word in ("start", "resume")):
                spans.append((entry.time, entry.time))
            first, last = spans[-1]
            spans[-1] = (first, max(last, entry.time))
        return spans

    @property
    def last_step(self) -> int | None:
        """The highest step any line names; None if nothing was logged."""
        return max((entry.step for entry in self.entries), default=None)


def load_run(workdir: storage.PathLike) -> RunRecord:
    """Reads a workdir; only its metrics file must be there.

    Raises:
      ValueError: there is no such folder, or it holds no metrics file; the message says what was looked for.
    """
    folder = storage.as_path(workdir)
    if not (folder / METRICS_FILE).is_file():
        found = "the folder holds no such file" if folder.is_dir() else "there is no such folder"
        raise ValueError(
            f"{folder}: looked for {METRICS_FILE}, which pretraining writes into its workdir, but {found}; "
            "give the workdir of a run that has started"
        )
    problems: dict[str, str] = {}
    return RunRecord(
        workdir=folder,
        entries=_part(problems, folder / METRICS_FILE, _read_entries) or (),
        config=_part(problems, folder / CONFIG, _read_config),
        changes=_part(problems, folder / CHANGES, _read_changes),
        environment=_part(problems, folder / ENVIRONMENT, _read_mapping),
        summary=_part(problems, folder / SUMMARY, _read_mapping),
        snapshot=_part(problems, folder / SNAPSHOT, read_snapshot),
        problems=problems,
    )


def _part(problems: dict[str, str], path: epath.Path, read: Callable[[epath.Path], Read]) -> Read | None:
    if not path.is_file():
        problems[path.name] = f"{path.name} is not in the workdir."
        return None
    try:
        return read(path)
    except (OSError, ValueError, RecursionError) as error:
        problems[path.name] = f"{path.name} cannot be used: {error}."
        return None


def _read_entries(path: epath.Path) -> tuple[Entry, ...]:
    return tuple(_entry(record) for record in read_metrics(path.parent))


def _entry(record: Mapping[str, Any]) -> Entry:
    if not 0 <= record["step"] < 2**53:
        raise ValueError(f"a line has step {record['step']}, expected 0 or more; delete the line")
    metrics = record.get("metrics")
    return Entry(
        kind=str(record.get("kind", "")),
        step=record["step"],
        time=_number(record.get("time")),
        metrics={name: _number(value) for name, value in metrics.items()} if isinstance(metrics, dict) else {},
        text=str(record.get("text", "")),
    )


def _number(value: object) -> float:
    """A JSON number as a finite float; NaN for anything else."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan
    # Beyond this a chart's range would overflow, and such a number says no more than NaN does.
    return number if abs(number) < 1e300 else math.nan


def _read_mapping(path: epath.Path) -> Mapping[str, Any]:
    value = storage.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"it should hold a JSON object, found a {type(value).__name__}")
    return value


def _read_config(path: epath.Path) -> Mapping[str, Any]:
    return {name: value for name, value in _read_mapping(path).items() if name != "schema_version"}


def _read_changes(path: epath.Path) -> Mapping[str, Any]:
    value = _read_mapping(path)
    for name, pair in value.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{name!r} should be a default and a value, found {pair!r}")
    return value
