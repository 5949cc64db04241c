"""From rows of phase annotation to the labels of a case. Letters: N scored moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tables import Row, iterate_table


def phase_case(
    name: str,
    frames: VideoFrames | ImageFrames,
    times: Sequence[float],
    phases: Sequence[int],
    annotation: Path,
    group: str | None = None,
) -> Case:
    """A case with one phase for each scored moment; a procedure of its own unless `group` says otherwise."""
    times_N, phase_N = np.asarray(times, np.float64), np.asarray(phases, np.int64)
    return Case(name, group or name, frames, times_N, {"phase": phase_N}, annotation=annotation)


def each_second(
    annotation: Path, delimiter: str | None, fps: int, phase: Callable[[Row], int]
) -> tuple[list[int], list[int]]:
    """(seconds, phases) of an annotation with the columns `Frame` and `Phase`, and a row for every frame.

    Second i is labelled by the row of the frame on display then, number `fps * i` after the first. Every row is
    looked at, so that an error in any is found.

    Raises:
        BenchmarkError: no rows; or naming the first that `phase` refuses, or that does not follow the one before.
    """
    found: list[int] = []
    first = 0
    for row in iterate_table(annotation, ("Frame", "Phase"), delimiter):
        number = row.integer("Frame")
        if not found:
            first = row.integer("Frame", low=0, high=1)
        if number != first + len(found):
            asks = f"Frame {first + len(found)}, one row for each frame"
            raise row.error(f"Frame {number}", asks, "restore the rows")
        found.append(phase(row))
    if not found:
        raise BenchmarkError(annotation, "no rows", "a row for each frame", "restore the file from where it came")
    return list(range(-(-len(found) // fps))), found[::fps]
