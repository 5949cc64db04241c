"""The rows of an ablation, trained one after the other under one budget, and their table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.differences import difference, flatten
from surgmotion_jax.parallel.cluster import announcements
from surgmotion_jax.parallel.processes import find_place
from surgmotion_jax.pretrain import ablation
from surgmotion_jax.pretrain.ablation import DEFAULT_ROWS, Outcome, all_rows, config_of, last_evaluated, outcome
from surgmotion_jax.pretrain.config import RUN_FIELDS, RUN_SECTIONS, PretrainConfig, as_dict
from surgmotion_jax.pretrain.setup.stored_config import CONFIG_FILE, read_stored
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.ending import Ending
from surgmotion_jax.runs.pretraining import pretrain
from surgmotion_jax.runs.session import complain

# These change nothing that is learnt, but they change what the table compares.
COMPARED = ("alarms", "heldout", "probe")
SURVIVED = ("alarm", "nonfinite")  # endings of a row that keep no other row from running


@dataclass(frozen=True)
class Ablated:
    """What came of an ablation.

    Attributes:
      endings: how each row ended that was trained now, in order.
      table: the rows that have finished, now or before, as text; empty where none has.
    """

    endings: Mapping[str, Ending]
    table: str


def ablate(
    config: PretrainConfig,
    workdir: storage.PathLike,
    rows: Sequence[str] = DEFAULT_ROWS,
    *,
    command: str = "",
    stream: TextIO | None = None,
) -> Ablated:
    """Trains the rows that have not finished, one after the other, writing the table after each.

    A row that an alarm ended does not keep the others from running; one that was interrupted, or could not be saved,
    does. Raises ValueError before anything is trained for rows that do not fit the config or what lies in the workdir,
    and where this is one of several processes.
    """
    known = all_rows()
    configs = {name: config_of(known[name], config) for name in rows}
    refuse_several_processes(config, configs)
    for name, row in configs.items():
        check_row(storage.as_path(workdir) / name, row)
    path, told = storage.ensure_writable(workdir), stream or sys.stdout
    endings: dict[str, Ending] = {}
    for number, (name, row) in enumerate(configs.items(), 1):
        place = f"{'row':>12}  {number} of {len(configs)}, {name}"
        if finished(path, name, row):
            print(f"{place}: finished before", file=told, flush=True)
            continue
        print(f"{place} ({known[name].title}), in {path / name}", file=told, flush=True)
        endings[name] = pretrain(row, path / name, command=command, stream=stream)
        if endings[name].kind in SURVIVED:
            complain(f"row {name}: {endings[name].reason} The other rows go on.")
        elif not finished(path, name, row):
            break
        write_table(path, config, rows)
    return Ablated(endings, write_table(path, config, rows))


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


def finished(path: epath.Path, name: str, config: PretrainConfig) -> bool:
    """Whether a row has been trained and evaluated to its last step."""
    return last_evaluated(config, read_metrics(path / name)) is not None


def finished_rows(path: epath.Path, config: PretrainConfig, rows: Sequence[str]) -> list[Outcome]:
    """Outcomes of the rows asked for and of others finished earlier under the same config, in the table's order."""
    found = []
    for name, row in all_rows().items():
        try:
            own = config_of(row, config)
            if name not in rows:
                check_row(path / name, own)
        except ValueError:
            continue  # a row that was not asked for, of another run
        result = outcome(name, own, read_metrics(path / name))
        found += [result] if result else []
    return found


def write_table(workdir: storage.PathLike, config: PretrainConfig, rows: Sequence[str]) -> str:
    """Writes the table of the rows that have finished as text, Markdown and JSON; returns the text, empty if none."""
    path = storage.as_path(workdir)
    outcomes = finished_rows(path, config, rows)
    if not outcomes:
        return ""
    below = ablation.notes(config, outcomes)
    text = ablation.as_text(outcomes, below)
    content = ablation.as_json(config, outcomes, below)
    storage.write_text_atomic(path / "table.txt", f"{text}\n")
    storage.write_text_atomic(path / "results.md", ablation.as_markdown(outcomes, below))
    storage.write_text_atomic(path / "results.json", json.dumps(content, indent=1, allow_nan=False))
    return text
