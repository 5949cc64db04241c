"""Trains an encoder. Repeating the command resumes from the newest checkpoint of the workdir.

Exit codes: 0 finished; 2 bad input; 3 ended by an alarm, or by updates that were not finite; 4 the last state could not
be saved; 130 after Ctrl-C; run.stopped_code (0) after SIGTERM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.registry import TERMINATED
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


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("pretraining", "a config file or the name of a shipped one: pretrain/tiny")
    workdir: str = flag("DIR", "where checkpoints, metrics and pictures go")
    data: str | None = flag("PATH", "videos, a folder, glob, CSV or records:DIR: short for data.sources", default=None)


LINE = CommandLine("pretrain", __doc__, Arguments)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, lambda asked: run(asked, f"surgmotion pretrain {' '.join(argv)}"))


def run(asked: Arguments, command: str) -> int:
    """Trains, and returns the exit code."""
    config = pretrain_config(asked.config, asked.data)
    try:
        return conclude(pretrain(config, asked.workdir, command=command), config)
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        complain(f"{asked.workdir}: stopped by SIGTERM; repeat the command to go on")
        return config.run.stopped_code


def conclude(ending: Ending, config: PretrainConfig) -> int:
    """Says why a run ended that did not end as it should; returns the exit code."""
    if ending.reason:
        complain(f"{ending.workdir}: stopped at step {ending.step}: {ending.reason}")
    return exit_code(ending, config)


def exit_code(ending: Ending, config: PretrainConfig) -> int:
    """What the shell is told of how a run ended."""
    return config.run.stopped_code if ending.kind == "stopped" else CODES[ending.kind]


def read_command_line(argv: Sequence[str]) -> tuple[PretrainConfig, str]:
    """The config and workdir that a command line asks for. Raises ValueError for anything unknown."""
    asked = LINE.parse(argv)
    return pretrain_config(asked.config, asked.data), asked.workdir
