"""Where the time of a step went, measured: the operations of a profile by the part of the step that they belong to.

A profile names operations as the compiled program does, and the program's text says where each comes from. An
operation counts for its own time, without that of operations inside it. One that the compiler made of several parts
counts for the part of its last operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from surgmotion_jax.parallel.hlo import parse_module
from surgmotion_jax.pretrain.plan.times import PARTS, part_of

BESIDE = "Async"  # how lines of a profile begin that show copies which run beside other operations


class Event(NamedTuple):
    """An operation at work, in nanoseconds."""

    start: float
    duration: float
    name: str


def measured_parts(folder: Path, text: str, steps: int) -> dict[str, float]:
    """Seconds a step by part, of the mean device; on CPUs of all threads together. Empty where nothing was recorded.

    Args:
      folder: where `jax.profiler.trace` wrote.
      text: the compiled program that ran, and nothing else of its name.
      steps: how often it ran.
    """
    computations = parse_module(text).computations.values()
    names = {name: one.op_name for computation in computations for name, one in computation.instructions.items()}
    found = []
    for path in sorted(folder.rglob("*.xplane.pb")):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            parts = dict.fromkeys(PARTS, 0.0)
            for line in plane.lines:
                if not line.name.startswith(BESIDE):
                    for name, nanoseconds in own_times(_known(line.events, names)):
                        parts[part_of(names[name])] += nanoseconds / 1e9 / steps
            if any(parts.values()):
                found.append(parts)
    return {part: sum(one[part] for one in found) / len(found) for part in PARTS} if found else {}


def own_times(events: Iterable[Event]) -> Iterator[tuple[str, float]]:
    """Names of events of one thread, each with its duration less that of those within it."""
    around: list[Event] = []  # each within the one before it
    inside: list[float] = []  # how much of each is taken by others so far
    for event in (*sorted(events, key=lambda one: (one.start, -one.duration)), None):
        while around and (event is None or event.start >= around[-1].start + around[-1].duration):
            done = around.pop()
            yield done.name, done.duration - inside.pop()
        if event is not None:
            if around:
                inside[-1] += event.duration
            around.append(event)
            inside.append(0.0)


def _known(events: Iterable[jax.profiler.ProfileEvent], names: dict[str, str]) -> Iterator[Event]:
    """Those that are operations of the program."""
    for event in events:
        told = dict(event.stats)
        name = str(told.get("hlo_op") or event.name).lstrip("%").partition(" ")[0]
        if name in names and not event.name.startswith("end: "):
            yield Event(event.start_ns, event.duration_ns, name)
