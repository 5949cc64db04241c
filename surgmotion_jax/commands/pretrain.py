"""`surgmotion pretrain --config=FILE[:ARG] --workdir=DIR [--data=PATH] [--config.section.field=VALUE ...]`

Trains an encoder. Repeating the command resumes from the newest checkpoint of the workdir.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. pretrain/tiny
  --workdir=DIR         checkpoints, metrics and pictures go here
  --data=PATH           a video, folder, glob or CSV: short for the config's data.sources
  --config.a.b=VALUE    overrides a field, e.g. --config.optim.batch=16

Exit codes: 0 finished; 2 bad input; 3 ended by an alarm, or by updates that were not finite; 4 the last state could not
be saved; 130 after Ctrl-C; run.stopped_code (0) after SIGTERM.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from surgmotion_jax import config as door
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.configuration import with_data
from surgmotion_jax.runs.ending import Ending, Kind
from surgmotion_jax.runs.pretraining import pretrain
from surgmotion_jax.runs.session import complain

HALTED = 3  # exit code of a run that an alarm, or updates that were not finite, ended
UNSAVED = 4  # exit code of a run whose last state could not be written
CODES: dict[Kind, int] = {
    "finished": 0,
    "nothing-to-do": 0,
    "interrupted": 130,
    "alarm": HALTED,
    "nonfinite": HALTED,
    "unsaved": UNSAVED,
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    config, workdir = read_command_line(argv)
    ending = pretrain(config, workdir, command=f"surgmotion pretrain {' '.join(argv)}")
    return conclude(ending, config)


def conclude(ending: Ending, config: PretrainConfig) -> int:
    """Says why a run ended that did not end as it should; returns the exit code."""
    if ending.reason:
        complain(f"{ending.workdir}: stopped at step {ending.step}: {ending.reason}")
    return exit_code(ending, config)


def exit_code(ending: Ending, config: PretrainConfig) -> int:
    """What the shell is told of how a run ended."""
    return config.run.stopped_code if ending.kind == "stopped" else CODES[ending.kind]


def read_command_line(argv: Sequence[str], command: str = "pretrain") -> tuple[PretrainConfig, str]:
    """The config and workdir that a command line asks for. Raises ValueError, naming `command`, for unknown ones."""
    flags, rest = door.parse_flags(argv)
    parser = argparse.ArgumentParser(
        prog=f"surgmotion {command}", add_help=False, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--workdir")
    parser.add_argument("--data")
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion {command} --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion {command} --help.")
    if not given.workdir:
        raise ValueError("no --workdir=DIR given; checkpoints and metrics need a folder to go to.")
    if given.data:
        flags = with_data(flags, given.data)
    if not flags.data.sources:
        raise ValueError("the config names no videos; give --data=PATH, or fill data.sources in the config.")
    return door.build(PretrainConfig, flags), given.workdir
