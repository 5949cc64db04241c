"""`surgmotion ablate --config=FILE[:ARG] --workdir=DIR [--rows=A,B] [--data=PATH] [--config.section.field=VALUE ...]`

Trains one run for each row of the ablation, with equal budgets, and writes one table of gauges and held-out errors.
Repeating the command resumes: finished rows are not run again.

  --config=FILE[:ARG]   a config of `surgmotion pretrain`, e.g. ablate/tiny; it weighs the terms that rows have
  --workdir=DIR         each row trains in DIR/ROW; table.txt, results.md and results.json go to DIR
  --rows=A,B            rows to run (default: plain,motion,affinity,sfdr,all,pixel; there are also topk and topk_mean)
  --data=PATH           a video, folder, glob or CSV: short for the config's data.sources
  --config.a.b=VALUE    overrides a field in every row, e.g. --config.steps=1000

Rows: plain is V-JEPA without the paper's terms; motion, affinity and sfdr add one term each, all adds the three; pixel
predicts pixels instead of features. In topk only the K tubes of most motion carry a prediction loss, as the formula
says; topk_mean scales that loss to a total weight of 1, as the other rows have.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgmotion_jax import config as door
from surgmotion_jax.commands import pretrain

if TYPE_CHECKING:
    from surgmotion_jax.pretrain.ablation import Outcome
    from surgmotion_jax.pretrain.config import PretrainConfig

# These change nothing that is learnt, but they change what the table compares.
COMPARED = ("alarms", "heldout", "probe")


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    config, workdir, rows = read_command_line(argv)
    return run(config, workdir, rows, f"surgmotion ablate {' '.join(argv)}")


def read_command_line(argv: Sequence[str]) -> tuple[PretrainConfig, str, tuple[str, ...]]:
    """Config, workdir and rows. Raises ValueError for anything unknown."""
    from surgmotion_jax.pretrain.ablation import choose_rows

    parser = argparse.ArgumentParser(prog="surgmotion ablate", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--rows", default="")
    try:
        given, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion ablate --help.") from None
    rows = choose_rows(given.rows)
    return *pretrain.read_command_line(rest, "ablate"), rows


def run(config: PretrainConfig, workdir: str, rows: Sequence[str], command: str) -> int:
    """Runs the rows that have not finished, one after the other, writing the table after each.

    Returns 0, or the code of `surgmotion pretrain` where a row was interrupted or, once the others are done, where an
    alarm ended one. Raises ValueError before anything is trained for rows that do not fit the config or what lies in
    the workdir.
    """
    from surgmotion_jax import storage
    from surgmotion_jax.pretrain.ablation import ROWS, config_of
    from surgmotion_jax.pretrain.loop import Halted

    path = storage.as_path(workdir)
    configs = {name: config_of(ROWS[name], config) for name in rows}
    refuse_several_processes(config, configs)
    for name, row in configs.items():
        check_row(path / name, row)
    path, code = storage.ensure_writable(workdir), 0
    for number, (name, row) in enumerate(configs.items(), 1):
        if finished(path, name, row):
            print(f"{'row':>12}  {number} of {len(configs)}, {name}: finished before", flush=True)
            continue
        print(f"{'row':>12}  {number} of {len(configs)}, {name} ({ROWS[name].title}), in {path / name}", flush=True)
        try:
            ended = pretrain.run(row, str(path / name), command)
        except Halted as error:
            pretrain.complain(f"row {name}: {error} The other rows go on.")
            code = pretrain.HALTED
            continue
        if not finished(path, name, row):
            return ended
        write_table(path, config, rows)
    if finished_rows(path, config, rows):
        print(write_table(path, config, rows))
    return code


def refuse_several_processes(config: PretrainConfig, rows: Mapping[str, PretrainConfig]) -> None:
    """Raises ValueError where this is one of several processes: they join once, and cannot for each row anew."""
    from surgmotion_jax.parallel.cluster import announcements
    from surgmotion_jax.parallel.processes import find_place

    place = find_place(config.distributed, announcements(os.environ))
    if place.processes > 1:
        listing = "\n  ".join(f"{name}: {' '.join(flags_of(config, row))}" for name, row in rows.items())
        raise ValueError(
            f"this is {place}, but an ablation runs its rows in one process. Train each row with surgmotion pretrain "
            f"--workdir=DIR/ROW and its flags, then repeat this command in one process to write the table:\n  {listing}"
        )


def flags_of(config: PretrainConfig, row: PretrainConfig) -> list[str]:
    """The flags that make a row of the config."""
    from surgmotion_jax.pretrain.config import as_dict

    before, after = door.flatten(as_dict(config)), door.flatten(as_dict(row))
    return [f"--config.{field}={value}" for field, value in after.items() if value != before[field]]


def check_row(workdir: Any, config: PretrainConfig) -> None:
    """Raises ValueError if a row's workdir holds a run of another config."""
    from surgmotion_jax import storage
    from surgmotion_jax.pretrain.config import RUN_FIELDS, RUN_SECTIONS, as_dict
    from surgmotion_jax.pretrain.setup.stored_config import with_later_fields

    if config.run.accept_changes or not (workdir / "config.json").exists():
        return
    saved = storage.read_json(workdir / "config.json")
    ignored = (*(name for name in RUN_SECTIONS if name not in COMPARED), *RUN_FIELDS)
    differing = door.difference(with_later_fields(saved), as_dict(config), ignored)
    if differing:
        listing = "\n  ".join(differing)
        raise ValueError(
            f"{workdir} holds a run of another config (saved -> now):\n  {listing}\n"
            "Rows are compared only under equal budgets: use another --workdir, undo the changes, or leave the row "
            "out with --rows. Nothing was changed."
        )


def finished(path: Any, name: str, config: PretrainConfig) -> bool:
    """Whether a row has been trained and evaluated to its last step."""
    from surgmotion_jax.pretrain.ablation import last_evaluated
    from surgmotion_jax.records import read_metrics

    return last_evaluated(config, read_metrics(path / name)) is not None


def finished_rows(path: Any, config: PretrainConfig, rows: Sequence[str]) -> list[Outcome]:
    """Outcomes of the rows asked for and of others finished earlier under the same config, in the order of ROWS."""
    from surgmotion_jax.pretrain.ablation import ROWS, config_of, outcome
    from surgmotion_jax.records import read_metrics

    found = []
    for name, row in ROWS.items():
        try:
            own = config_of(row, config)
            if name not in rows:
                check_row(path / name, own)
        except ValueError:
            continue  # a row that was not asked for, of another run
        result = outcome(name, own, read_metrics(path / name))
        found += [result] if result else []
    return found


def write_table(path: Any, config: PretrainConfig, rows: Sequence[str]) -> str:
    """Writes the table of the rows that have finished as text, Markdown and JSON; returns the text."""
    from surgmotion_jax import storage
    from surgmotion_jax.pretrain import ablation

    outcomes = finished_rows(path, config, rows)
    below = ablation.notes(config, outcomes)
    text = ablation.as_text(outcomes, below)
    content: Mapping[str, Any] = ablation.as_json(config, outcomes, below)
    storage.write_text_atomic(path / "table.txt", f"{text}\n")
    storage.write_text_atomic(path / "results.md", ablation.as_markdown(outcomes, below))
    storage.write_text_atomic(path / "results.json", json.dumps(content, indent=1, allow_nan=False))
    return text
