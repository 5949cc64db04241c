"""Writes simulated operations as PitVis lies on disk: videos, and a step number a second, some of them not scored."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.pitvis import CLASSES, COLUMNS, DROPPED, STEPS, TEST, TRAIN, VAL
from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

DROPPED_EVERY = 7
"""Every seventh second gets a step that is not scored, so that dropping them is exercised."""


def step_at(case: SimulatedCase, second: int) -> int:
    """Step number in the file: that of the phase, or one of those that readers drop."""
    place, left = divmod(second, DROPPED_EVERY)
    outside = bool(case.script.out_of_body_T[case.frame_at(second)])
    if left == DROPPED_EVERY - 1:
        return DROPPED[place % len(DROPPED)]
    return DROPPED[0] if outside else STEPS[case.phase_at(second)]


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / f"video_{case.id}.mp4")
    rows = [(int(case.id), second, step_at(case, second), 0, 0) for second in range(case.moments(1.0))]
    write_table(out / f"annotations_{case.id}.csv", COLUMNS, rows)


SPECIALTY = "endoscopic"
PLAN = plans_over_splits({"train": TRAIN, "val": VAL, "test": TEST}, plain_vocabulary(len(CLASSES)), SPECIALTY)
LAYOUT = Layout("pitvis", SPECIALTY, 5.0, PLAN, write_case)
