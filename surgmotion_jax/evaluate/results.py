"""What an evaluation leaves behind: `results.json`, `predictions.csv`, `run.json`.

Results depend on data, weights and config alone, so that a repeated run writes the same bytes; when and where it ran
is in `run.json`. `predictions.csv` has a row for each scored moment, from which every number can be computed again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict, cast

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.evaluate.config import ConfigFields
from surgmotion_jax.evaluate.source import Identity
from surgmotion_jax.evaluate.tasks.task import Measure, Scored, Table, Undefined

RESULTS_FILE, PREDICTIONS_FILE, RUN_FILE, CONFIG_FILE = "results.json", "predictions.csv", "run.json", "config.json"
SCHEMA_VERSION = 1
ONE_CASE = "one test case: no confidence interval can be given"
PER_VIDEO = "mean over videos"  # how the convention of a measure begins that is a mean of values of single cases
KEYS = ("case", "time")  # the first columns of predictions.csv


# ---- results.json, as it is read ----


class Named(TypedDict):
    """A measure by its name and definition."""

    metric: str
    convention: str


class ResultRow(Named):
    """One number; see `records.Result`."""

    value: float
    interval: tuple[float, float] | None
    interval_note: NotRequired[str]


class Scores(TypedDict):
    """The numbers of one head."""

    results: list[ResultRow]
    undefined: list[Undefined]


class Chosen(Scores):
    """The head that is reported; it has no number where each fold has its own."""

    name: str
    number: int | None


class Oracle(Scores):
    """The best head on the test cases."""

    name: str
    note: str


class Candidate(TypedDict):
    """A head with the value by which heads are chosen, None where it is undefined."""

    name: str
    val: float | None
    test: float | None


class Deviation(Named):
    """How far single cases differ."""

    sd: float
    cases: int


class FoldMean(Named):
    """A measure over folds; one fold has no deviation."""

    mean: float
    sd: float | None
    folds: int


class FoldMeans(TypedDict):
    """`FoldMean`s, and what they are."""

    note: str
    results: list[FoldMean]


class SavedHead(TypedDict):
    """The chosen head of another evaluation: its name, how it was trained, a digest of its file."""

    head: str
    sweep: dict[str, object]
    sha256: str


class Results(TypedDict):
    """The value of `results.json`."""

    benchmark: str
    title: str
    family: str
    protocol: str
    recipe: str
    classes: dict[str, list[str]]
    encoder: Identity
    config: ConfigFields
    probe: list[SavedHead] | None
    cases: dict[str, list[str]]  # by split
    training_moments: int
    chosen: Chosen
    oracle: Oracle
    candidates: list[Candidate]
    choice: Named
    sd_over_cases: list[Deviation]
    notes: list[str]
    predictions_sha256: str
    folds: NotRequired[dict[str, list[ResultRow]]]  # where several are pooled
    folds_mean_sd: NotRequired[FoldMeans]


def scored_json(scored: Scored) -> Scores:
    """Results and what is undefined, as plain JSON values."""
    rows: list[ResultRow] = []
    for result in scored.results:
        fields = json.loads(result.to_json())
        del fields["task"], fields["schema_version"]
        rows.append(fields)
    return {"results": rows, "undefined": list(scored.undefined)}


def sd_over_cases(measures: Sequence[Measure], cases: int) -> list[Deviation]:
    """Standard deviation (divisor n - 1) over videos of each measure that is a mean over them; none for one video.

    It says how far videos differ; how far the mean is certain, the interval says.
    """
    found: list[Deviation] = []
    for measure in measures:
        if not measure.convention.startswith(PER_VIDEO):
            continue
        values = np.array([measure.statistic(np.array([case])) for case in range(cases)])
        known = values[np.isfinite(values)]
        if len(known) > 1:
            sd, count = float(known.std(ddof=1)), len(known)
            found.append({"metric": measure.name, "convention": measure.convention, "sd": sd, "cases": count})
    return found


def case_notes(cases: Sequence[Case], absent: Sequence[str]) -> list[str]:
    """What is to be known of the test cases; `absent` are cases of the official lists that are not on disk."""
    notes, groups = [], len({case.group for case in cases})
    if len(cases) == 1:
        notes.append(ONE_CASE)
    if groups < len(cases):
        notes.append(
            f"{len(cases)} test cases from {groups} patients, procedures or sources: intervals take cases as "
            "independent and are too narrow as far as those of one source are alike"
        )
    if absent:
        listed = ", ".join(absent[:LISTED]) + (", ..." if len(absent) > LISTED else "")
        notes.append(f"{len(absent)} cases of the official lists are not on disk: {listed}")
    return notes


def write_results(workdir: storage.PathLike, fields: Results) -> None:
    """Writes `results.json`. Raises ValueError for a number that is not finite."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **fields}, indent=1, sort_keys=True, allow_nan=False)
    storage.write_text_atomic(storage.as_path(workdir) / RESULTS_FILE, text + "\n")


def read_results(workdir: storage.PathLike) -> Results:
    """`results.json` of a finished evaluation. Raises ValueError where there is none, or of another schema."""
    path = storage.as_path(workdir) / RESULTS_FILE
    if not path.exists():
        raise ValueError(f"{path}: no such file; name the workdir of a finished surgmotion evaluate")
    fields = storage.read_json(path)
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema_version {version!r}, this version reads {SCHEMA_VERSION}; evaluate again")
    return cast(Results, fields)


def write_predictions(
    workdir: storage.PathLike, cases: Sequence[str], times: Sequence[np.ndarray], tables: Sequence[Table]
) -> str:
    """Writes `predictions.csv` and returns its sha256."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(tables[0])
    writer.writerow([*KEYS, *names])
    for case, times_N, table in zip(cases, times, tables, strict=True):
        for row, moment in enumerate(times_N.tolist()):
            writer.writerow([case, repr(moment), *(_text(table[name][row]) for name in names)])
    data = out.getvalue().encode()
    storage.write_bytes_atomic(storage.as_path(workdir) / PREDICTIONS_FILE, data)
    return hashlib.sha256(data).hexdigest()


def read_predictions(workdir: storage.PathLike) -> dict[str, Table]:
    """Tables by case, in file order, with the column `time`; text columns stay text, whole numbers whole.

    Raises ValueError naming file and line for a row that does not fit its header, or a moment that comes twice.
    """
    path = storage.as_path(workdir) / PREDICTIONS_FILE
    if not path.exists():
        raise ValueError(f"{path}: no such file; name the workdir of a finished surgmotion evaluate")
    reader = csv.reader(io.StringIO(path.read_text(), newline=""))
    header = next(reader, [])
    if tuple(header[:2]) != KEYS:
        raise ValueError(f"{path}:1: columns {', '.join(header[:4])}; the first must be {', '.join(KEYS)}")
    rows: dict[str, list[list[str]]] = {}
    for row in reader:
        if len(row) != len(header):
            raise ValueError(f"{path}:{reader.line_num}: {len(row)} cells, the header has {len(header)}")
        rows.setdefault(row[0], []).append(row[1:])
    tables = {case: _table(header[1:], values) for case, values in rows.items()}
    for case, table in tables.items():
        if len(np.unique(table["time"])) != len(table["time"]):
            raise ValueError(f"{path}: case {case!r} has a moment twice; evaluate again")
    return tables


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    columns: Table = {}
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        columns[name] = _column(cells)
    return columns


def _column(cells: Sequence[str]) -> np.ndarray:
    """Whole numbers stay whole, so that a table that is written again has the same text."""
    for kind in (int, float):
        try:
            return np.array([kind(cell) for cell in cells])
        except ValueError:
            continue
    return np.array(cells, dtype=object)


def _text(value: object) -> str:
    """The shortest text that reads back as the same number."""
    if isinstance(value, np.float32 | np.float16):
        return str(value)
    return repr(value.item()) if isinstance(value, np.generic) else str(value)
