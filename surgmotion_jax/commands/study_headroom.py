"""Finds out which data sets can tell encoders apart, before any are compared.

For each task: a constant answer, 16 x 16 pixels under a linear head, random weights under the config's head, and the
same encoder trained end to end. A task has headroom where end to end is at least 20 points above random weights, and
these are at least 10 below a perfect answer. Writes headroom.json; goes on where it was interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from surgmotion_jax.commands.command_line import CommandLine, flag, positional
from surgmotion_jax.evaluate.headroom import ANCHORS, CEILING, Task
from surgmotion_jax.runs.configuration import override_of
from surgmotion_jax.runs.headroom import HEADROOM_FILE, Study, Subject, headroom


def subject_of(text: str) -> Subject:
    """'evaluate/cholec80:small=sim/cholec80' as config and root. Raises ValueError for anything else."""
    config, equals, root = text.partition("=")
    if not (config and equals and root):
        raise ValueError(f"{text!r} is not a config and a data set; write them as evaluate/cholec80:small=sim/cholec80")
    return Subject(config, os.path.expanduser(root))


def rates_of(text: str) -> tuple[float, ...]:
    """'1e-3,3e-4' as numbers. Raises ValueError for anything else."""
    return tuple(float(part) for part in text.split(","))


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    subjects: tuple[str, ...] = positional("CONFIG=DIR", "the config of an evaluation, and its data set")
    workdir: str = flag("W", "evaluations, each in a folder, and headroom.json go here")
    checkpoint: str = flag("NAME", "random weights of the architecture in question", default="random:vit_nano")
    rates: tuple[float, ...] = flag("A,B", "learning rates of training end to end", default=(1e-3,), read=rates_of)
    epochs: int = flag("N", "of training end to end (default: those of the config)", default=0, least=0)
    set: tuple[str, ...] = flag("FIELD=X", "a field of every evaluation's config; may be repeated", default=())


LINE = CommandLine("study headroom", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, study_headroom)


def study_headroom(request: Request) -> int:
    overrides = dict(map(override_of, request.set))
    study = Study(request.checkpoint, request.rates, epochs=request.epochs, overrides=overrides)
    tasks = headroom([subject_of(text) for text in request.subjects], study, request.workdir, _say)
    print("\n".join(table(tasks)))
    print(os.path.join(request.workdir, HEADROOM_FILE))
    return 0


def table(tasks: Sequence[Task]) -> Iterator[str]:
    """Points of every anchor, and whether the task can decide anything."""
    width = max(map(len, (task.name for task in tasks)))
    yield f"{'task':<{width}}" + "".join(f"{name:>9}" for name in (*ANCHORS, "ceiling")) + "  verdict"
    for task in tasks:
        shown = [task.points[anchor] for anchor in ANCHORS]
        cells = "".join(f"{'-' if points is None else f'{points:.1f}':>9}" for points in (*shown, CEILING))
        yield f"{task.name:<{width}}{cells}  {task.failure or 'has headroom'}"
    passed = sum(not task.failure for task in tasks)
    yield f"{passed} of {len(tasks)} tasks have headroom; an error counts by the share of chance's error that it avoids"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
