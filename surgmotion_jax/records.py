"""Records that a run leaves behind: metrics line by line, and results of an evaluation.

`metrics.jsonl` holds one JSON object a line:
`{"kind": "train" | "heldout" | "event", "step": int, "time": unix seconds, "metrics": {name: float}}`.
Events carry `"text"`. NaN and infinities, which JSON lacks, are written as null and named in `"nonfinite"`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, SupportsFloat

from surgmotion_jax import storage

METRICS_FILE = "metrics.jsonl"
RESULT_SCHEMA_VERSION = 1

Kind = Literal["train", "heldout", "event"]


class MetricsWriter:
    """Writes metrics to `workdir/metrics.jsonl` and, if asked for and installed, to tensorboardX.

    A write that fails is reported once on stderr and never raises: curves are worth less than the run.
    Use it in one process only (`enabled=False` in the others makes every method do nothing).
    """

    def __init__(self, workdir: storage.PathLike, enabled: bool = True, tensorboard: bool = False) -> None:
        self._directory = storage.as_path(workdir)
        self._path = self._directory / METRICS_FILE
        self._enabled = enabled
        self._wants_tensorboard = enabled and tensorboard
        self._board: Any = None
        self._warned = False
        self._first_step = 0
        if enabled:
            self._guard(self._keep_whole_lines)

    def write(self, kind: Kind, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Records scalars at a step. Raises ValueError for a value that is not one number."""
        if not self._enabled:
            return
        values = {name: _as_float(name, value) for name, value in metrics.items()}
        self._append(_record(kind, step, values))
        self._guard(lambda: self._write_board(kind, step, values))

    def event(self, step: int, text: str, metrics: Mapping[str, SupportsFloat] | None = None) -> None:
        """Records something that happened (a resume, a skipped update, a failed save) in a sentence."""
        if not self._enabled:
            return
        values = {name: _as_float(name, value) for name, value in (metrics or {}).items()}
        self._append(_record("event", step, values) | {"text": text})

    def rewind(self, step: int) -> None:
        """Drops records after `step`, so that a resumed run leaves each curve with one value a step."""
        self._first_step = step + 1
        if self._enabled:
            self._guard(lambda: self._keep_whole_lines(last_step=step))

    def close(self) -> None:
        """Flushes tensorboardX; the JSON lines are on disk as soon as they are written."""
        if self._board is not None:
            self._guard(self._board.close)

    def _append(self, record: dict[str, Any]) -> None:
        self._guard(lambda: storage.append_line(self._path, json.dumps(record, allow_nan=False)))

    def _keep_whole_lines(self, last_step: int | None = None) -> None:
        """Rewrites the file without later steps and without a line that a crash cut."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return
        text = self._path.read_text()
        lines = [line for line in text.splitlines() if _survives(line, last_step)]
        kept = "".join(line + "\n" for line in lines)
        if kept != text:
            storage.write_text_atomic(self._path, kept)

    def _write_board(self, kind: Kind, step: int, values: dict[str, float]) -> None:
        if not self._wants_tensorboard:
            return
        if self._board is None:
            self._board = self._open_board()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def _open_board(self) -> Any:
        self._wants_tensorboard = False  # stays so when the next lines raise: one attempt, one warning
        board = importlib.import_module("tensorboardX").SummaryWriter(
            str(self._directory / "tensorboard"), purge_step=self._first_step
        )
        self._wants_tensorboard = True
        return board

    def _guard(self, action: Any) -> None:
        try:
            action()
        except (OSError, ImportError, ValueError) as error:
            if not self._warned:
                print(
                    f"metrics: {self._path}: {error}; training goes on without what fails here",
                    file=sys.stderr,
                )
            self._warned = True


def read_metrics(workdir: storage.PathLike) -> list[dict[str, Any]]:
    """All records of a run in the order written; [] if there are none; a last line cut by a crash is left
    out.

    Raises ValueError naming file and line for any other line that is not a record.
    """
    path = storage.as_path(workdir) / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise ValueError(f"{path}:{number}: not a metrics record: {line[:60]!r}; delete the line")
    return records


def latest_metrics(workdir: storage.PathLike) -> dict[str, float]:
    """The latest value of every metric of a run; NaN where it was not finite. Raises ValueError as `read_metrics`."""
    latest: dict[str, float] = {}
    for record in read_metrics(workdir):
        latest |= {name: math.nan if value is None else value for name, value in record["metrics"].items()}
    return latest


@dataclasses.dataclass(frozen=True)
class Result:
    """One number of an evaluation, with all that is needed to compare it with another's.

    `interval` is a 95 % confidence interval (low, high) in the units of `value`, or None if none was
    computed; `convention` names how the metric is defined (averaging, ignored classes, boundary rule);
    `interval_note` says what is to be known of the interval, or why there is none. Without a note JSON has no
    such field.
    """

    task: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    convention: str
    schema_version: int = RESULT_SCHEMA_VERSION
    interval_note: str = ""

    def to_json(self) -> str:
        """One line of JSON. Raises ValueError if a number is not finite."""
        fields = dataclasses.asdict(self)
        if not self.interval_note:
            del fields["interval_note"]
        try:
            return json.dumps(fields, allow_nan=False, sort_keys=True)
        except ValueError as error:
            raise ValueError(
                f"result {self.task}/{self.metric}: value {self.value}, interval {self.interval}: a "
                "result must be finite; leave the metric out and say why"
            ) from error

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Reads `to_json`'s line. Raises ValueError on another schema version or a wrong set of fields."""
        fields = json.loads(text)
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or {*fields, "interval_note"} != names:
            found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"result: fields {found}, expected {sorted(names)}; write it with Result.to_json")
        if fields["schema_version"] != RESULT_SCHEMA_VERSION:
            raise ValueError(
                f"result: schema_version {fields['schema_version']}, this version reads "
                f"{RESULT_SCHEMA_VERSION}; evaluate again or use the version that wrote it"
            )
        interval = fields.pop("interval")
        return cls(interval=None if interval is None else (float(interval[0]), float(interval[1])), **fields)


def _as_float(name: str, value: SupportsFloat) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metric {name!r}: {value!r} is not one number; reduce it before writing") from error


def _record(kind: Kind, step: int, values: Mapping[str, float]) -> dict[str, Any]:
    nonfinite = sorted(name for name, value in values.items() if not math.isfinite(value))
    metrics = {name: None if name in nonfinite else value for name, value in values.items()}
    record = {"kind": kind, "step": int(step), "time": time.time(), "metrics": metrics}
    return record | ({"nonfinite": nonfinite} if nonfinite else {})


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _survives(line: str, last_step: int | None) -> bool:
    record = _parse(line)
    return record is not None and (last_step is None or record["step"] <= last_step)
