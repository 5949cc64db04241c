"""Writes simulated clips as SurgicalActions160 lies on disk: a folder of clips for each of 16 actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.surgicalactions160 import CLASS_COUNT
from surgmotion_jax.simulate.case import Vocabulary
from surgmotion_jax.simulate.layouts.files import write_mp4
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase

SPECIALTY = "laparoscopic"
VERBS, CLIPS = 8, 160
ACTIONS = [(number // VERBS, number % VERBS, 0) for number in range(CLASS_COUNT)]
"""Two instruments, eight motions of each: the picture alone tells half of it."""


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Clips dealt over the actions in turn; the split is the fold's affair."""
    del seed
    if not CLASS_COUNT <= cases <= CLIPS:
        raise ValueError(
            f"--cases is {cases}; this data set has a clip for each of {CLASS_COUNT} actions, {CLIPS} in all"
        )
    plans = []
    for number in range(cases):
        action = number % CLASS_COUNT
        vocabulary = Vocabulary(1, CLASS_COUNT // VERBS, VERBS, 1, (ACTIONS[action],))
        name = f"action_{action + 1:02d}/{action + 1:02d}_{number // CLASS_COUNT + 1:02d}"
        plans.append(CasePlan(name, "train", vocabulary, SPECIALTY, label=action))
    return plans


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / f"{case.id}.mp4")


LAYOUT = Layout("surgicalactions160", SPECIALTY, 12.5, plan, write_case)
