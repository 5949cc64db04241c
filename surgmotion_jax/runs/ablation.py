"""The rows of an ablation, trained one after the other under one budget, and their table."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from etils import epath

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import CheckpointMissing
from surgmotion_jax.differences import difference, flatten
from surgmotion_jax.parallel.cluster import announcements
from surgmotion_jax.parallel.processes import find_place
from surgmotion_jax.pretrain import ablation
from surgmotion_jax.pretrain.ablation import Outcome, last_evaluated, outcome
from surgmotion_jax.pretrain.config import RUN_FIELDS, RUN_SECTIONS, PretrainConfig, as_dict
from surgmotion_jax.pretrain.rows import DEFAULT_ROWS, all_rows
from surgmotion_jax.pretrain.setup.stored_config import CONFIG_FILE, read_stored
from surgmotion_jax.pretrain.setup.teacher import taught_by, with_teacher
from surgmotion_jax.pretrain.trials import Point, Trial, name_of, read_grid, trial_of
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.configuration import as_config_dict
from surgmotion_jax.runs.ending import Ending
from surgmotion_jax.runs.pretraining import pretrain
from surgmotion_jax.runs.session import complain

# These change nothing that is learnt, but they change what the table compares.
COMPARED = ("alarms", "heldout", "probe")
SURVIVED = ("alarm", "nonfinite")  # endings of a row that keep no other row from running
TEACHER = "pixel"  # the row whose encoder teaches where no other teacher is named


@dataclass(frozen=True)
class Ablated:
    """What came of an ablation.

    Attributes:
      endings: how each run ended that was trained now, in order.
      table: the rows that have finished, now or before, as text; empty where none has.
    """

    endings: Mapping[str, Ending]
    table: str


@dataclass(frozen=True)
class Extent:
    """What an ablation spans beside its rows.

    Attributes:
      grid: texts `field=value,value`; every row runs at all their combinations.
      match: `clips`, where all runs see as many, or `flops`, where all cost as much as plain V-JEPA does in the steps
        of the config.
      teacher: a workdir or weights for rows with a frozen teacher; empty: the encoder of the row of pixels.
    """

    grid: tuple[str, ...] = ()
    match: str = "clips"
    teacher: str = ""


def ablate(
    config: PretrainConfig,
    workdir: storage.PathLike,
    rows: Sequence[str] = DEFAULT_ROWS,
    extent: Extent = Extent(),
    *,
    command: str = "",
    stream: TextIO | None = None,
) -> Ablated:
    """Trains the runs that have not finished, one after the other, writing the table after each.

    A run that an alarm ended does not keep the others from running; one that was interrupted, or could not be saved,
    does. Raises ValueError before anything is trained for rows that do not fit the config or what lies in the workdir,
    and where this is one of several processes.
    """
    path, told = storage.as_path(workdir), stream or sys.stdout
    trials = tuple(trials_of(config, path, rows, extent))
    refuse_several_processes(config, {trial.name: trial.config for trial in trials})
    for trial in trials:
        check_row(path / trial.name, trial.config)
    storage.ensure_writable(workdir)
    endings: dict[str, Ending] = {}
    for number, trial in enumerate(trials, 1):
        place = f"{'row':>12}  {number} of {len(trials)}, {trial.name}"
        if finished(path, trial):
            print(f"{place}: finished before", file=told, flush=True)
            continue
        print(f"{place} ({trial.title}), in {path / trial.name}", file=told, flush=True)
        endings[trial.name] = pretrain(trial.config, path / trial.name, command=command, stream=stream)
        if endings[trial.name].kind in SURVIVED:
            complain(f"row {trial.name}: {endings[trial.name].reason} The other rows go on.")
        elif not finished(path, trial):
            break
        write_table(path, config, rows, extent)
    return Ablated(endings, write_table(path, config, rows, extent))


def trials_of(config: PretrainConfig, path: epath.Path, rows: Sequence[str], extent: Extent) -> Iterator[Trial]:
    """The runs of an ablation in the folder `path`, the row that teaches before those that it teaches.

    Raises ValueError for rows, values of a grid and teachers that do not fit.
    """
    known = all_rows()
    if any(known[name].targets == "frozen" for name in rows) and not extent.teacher and TEACHER not in rows:
        raise ValueError(
            f"a row has a frozen teacher, but --rows has no {TEACHER!r}, whose encoder would teach; add it to --rows, "
            "or name a workdir or converted weights with --teacher=DIR."
        )
    for point in read_grid(extent.grid):
        for name in sorted(rows, key=lambda name: known[name].targets == "frozen"):
            yield trial_at(name, config, path, point, extent)


def trial_at(name: str, config: PretrainConfig, path: epath.Path, point: Point, extent: Extent) -> Trial:
    """One row at one point of the grid. A teacher that is still to be trained is as the config says."""
    teacher = extent.teacher or os.fspath(path / name_of(TEACHER, point))
    trial = trial_of(name, all_rows()[name], config, point, moved_to, extent.match, teacher)
    try:
        return dataclasses.replace(trial, config=with_teacher(trial.config))
    except CheckpointMissing:
        if extent.teacher:
            raise
        return dataclasses.replace(trial, config=taught_by(trial.config, config.model))


def moved_to(config: PretrainConfig, point: Point) -> PretrainConfig:
    """The config with the values of a point of a grid. Raises ConfigError for a field or value that cannot be."""
    if not point:
        return config
    flags = [f"--config.{field}={value}" for field, value in point.items()]
    return door.build(PretrainConfig, door.override(as_config_dict(config), flags))


def refuse_several_processes(config: PretrainConfig, rows: Mapping[str, PretrainConfig]) -> None:
    """Raises ValueError where this is one of several processes: they join once, and cannot for each row anew."""
    place = find_place(config.distributed, announcements(os.environ))
    if place.processes > 1:
        listing = "\n  ".join(f"{name}: {' '.join(flags_of(config, row))}" for name, row in rows.items())
        raise ValueError(
            f"this is {place}, but an ablation runs its rows in one process. Train each row with surgmotion pretrain "
            f"--workdir=DIR/ROW and its flags, then repeat this command in one process to write the table:\n  {listing}"
        )


def flags_of(config: PretrainConfig, row: PretrainConfig) -> list[str]:
    """The flags that make a row of the config."""
    before, after = flatten(as_dict(config)), flatten(as_dict(row))
    return [f"--config.{field}={value}" for field, value in after.items() if value != before[field]]


def check_row(workdir: epath.Path, config: PretrainConfig) -> None:
    """Raises ValueError if a row's workdir holds a run of another config, or one in another schema."""
    if config.run.accept_changes or not (workdir / CONFIG_FILE).exists():
        return
    ignored = (*(name for name in RUN_SECTIONS if name not in COMPARED), *RUN_FIELDS)
    differing = difference(read_stored(workdir / CONFIG_FILE), as_dict(config), ignored)
    if differing:
        listing = "\n  ".join(differing)
        raise ValueError(
            f"{workdir} holds a run of another config (saved -> now):\n  {listing}\n"
            "Rows are compared only under equal budgets: use another --workdir, undo the changes, or leave the row "
            "out with --rows. Nothing was changed."
        )


def finished(path: epath.Path, trial: Trial) -> bool:
    """Whether a run has been trained and evaluated to its last step."""
    return last_evaluated(trial.config, read_metrics(path / trial.name)) is not None


def finished_rows(path: epath.Path, config: PretrainConfig, rows: Sequence[str], extent: Extent) -> list[Outcome]:
    """Outcomes of the rows asked for and of others finished earlier under the same config, in the table's order."""
    found = []
    for name in all_rows():
        for point in read_grid(extent.grid):
            try:
                trial = trial_at(name, config, path, point, extent)
                if name not in rows:
                    check_row(path / trial.name, trial.config)
            except ValueError:
                continue  # a row that was not asked for, of another run
            result = outcome(trial.name, trial.config, read_metrics(path / trial.name), trial.title)
            found += [result] if result else []
    return found


def write_table(
    workdir: storage.PathLike, config: PretrainConfig, rows: Sequence[str], extent: Extent = Extent()
) -> str:
    """Writes the table of the rows that have finished as text, Markdown and JSON; returns the text, empty if none."""
    path = storage.as_path(workdir)
    outcomes = finished_rows(path, config, rows, extent)
    if not outcomes:
        return ""
    below = ablation.notes(config, outcomes)
    text = ablation.as_text(outcomes, below)
    content = ablation.as_json(config, outcomes, below)
    storage.write_text_atomic(path / "table.txt", f"{text}\n")
    storage.write_text_atomic(path / "results.md", ablation.as_markdown(outcomes, below))
    storage.write_text_atomic(path / "results.json", json.dumps(content, indent=1, allow_nan=False))
    return text
