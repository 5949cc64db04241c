"""Shows what a run would find on this machine, and trains and compiles nothing.

Without flags: versions, devices, memory, compilation cache, optional extras. Exit code 0: all fine; 1: something that a
run needs is broken, each on a line that begins with PROBLEM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag
from surgmotion_jax.commands.configs import open_config, pretrain_config
from surgmotion_jax.doctor.examine import examine
from surgmotion_jax.doctor.line import NO_DATA, Subject


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    data: str | None = flag(
        "PATH",
        "opens a video, folder, glob or CSV, lists unreadable files, times the decoding of clips",
        default=None,
    )
    config: tuple[str, ...] = config_flags(
        "pretraining",
        "checks a config against the devices and estimates its memory; opens its data.sources, if any",
        required=False,
    )


LINE = CommandLine("doctor", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, doctor)


def doctor(request: Request) -> int:
    broken = 0
    for line in examine(subject_of(request)):
        # flushed line by line: opening many videos takes a while
        print(f"PROBLEM {line.text}" if line.problem else f"{line.label:>12}  {line.text}", flush=True)
        broken += line.problem
    print("all fine" if not broken else f"{broken} problem{'s' if broken > 1 else ''}")
    return 1 if broken else 0


def subject_of(request: Request) -> Subject:
    """What to look at; a config that cannot be read is a finding, not an error."""
    if not request.config:
        return Subject(data=request.data)
    try:
        # A config must name videos, but checking one against the devices needs none.
        named = request.data or open_config(request.config, "pretraining").data.sources
        return Subject(pretrain_config(request.config, request.data or (None if named else NO_DATA)), data=request.data)
    except ValueError as error:
        return Subject(fault=str(error), data=request.data)
