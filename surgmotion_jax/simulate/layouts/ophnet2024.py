"""Writes simulated operations as OphNet2024 lies on disk: a table of phase intervals, and images of each interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import SPLITS
from surgmotion_jax.benchmarks.ophnet2024 import COLUMNS, TABLE
from surgmotion_jax.simulate.layouts.files import write_image, write_table
from surgmotion_jax.simulate.layouts.layout import (
    CasePlan,
    Layout,
    SimulatedCase,
    plain_vocabulary,
    spread_over_splits,
)

SPECIALTY = "microscopic"
PHASES = 12  # of the 96; an operation has few, and most phases are rare
VIDEOS = 743


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Videos in the proportion 7 : 1 : 2."""
    del seed
    names = [f"case_{number:04d}" for number in range(VIDEOS)]
    ids = dict(zip(SPLITS, (names[:520], names[520:594], names[594:]), strict=True))
    vocabulary = plain_vocabulary(PHASES)
    return [CasePlan(name, split, vocabulary, SPECIALTY) for name, split in spread_over_splits(ids, cases)]


def intervals(case: SimulatedCase) -> list[tuple[int, int, int]]:
    """(start, end, phase) of each visit to a phase, in whole seconds."""
    seconds = range(case.moments(1.0))
    visits = [(phase, list(visit)) for phase, visit in groupby(seconds, case.phase_at)]
    return [(visit[0], visit[-1] + 1, phase) for phase, visit in visits]


def write_case(case: SimulatedCase, out: Path) -> None:
    """Images of all intervals. The table speaks of all cases, so it is written at the end."""
    place_of = {s: place for place, (start, end, _) in enumerate(intervals(case)) for s in range(start, end)}
    for second, frame in case.at_rate(1.0):
        write_image(out / "frames" / f"{case.id}_{place_of[second]}" / f"{second:06d}.jpg", frame.video_HxWx3)


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    rows = [(c.id, start, end, phase, c.plan.split) for c in cases for start, end, phase in intervals(c)]
    write_table(out / TABLE, COLUMNS, rows)


LAYOUT = Layout("ophnet2024", SPECIALTY, 1.0, plan, write_case, write_index)
