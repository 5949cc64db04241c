"""Writes simulated open surgery as AVOS is read: videos, and a table of segments with an action each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.avos import NO_ACTION
from surgmotion_jax.simulate.case import Vocabulary
from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase

SPECIALTY = "open"
ACTIONS = ("cutting", "suturing", "tying")
FEWEST = 3  # source videos, one for each split


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Each video shows one action; which split it falls into is drawn by the reader."""
    del seed
    if cases < FEWEST:
        raise ValueError(f"--cases is {cases}; this data set needs at least {FEWEST} videos, one for each split")
    plans = []
    for number in range(cases):
        action = number % len(ACTIONS)
        vocabulary = Vocabulary(1, 2, len(ACTIONS), 1, ((0, action, 0), (1, action, 0)))
        plans.append(CasePlan(f"web{number:04d}", "train", vocabulary, SPECIALTY, label=action))
    return plans


def segments(case: SimulatedCase) -> list[tuple[float, float, str]]:
    """(start, end, action): two segments with the action, and what lies between, which is not scored."""
    assert case.plan.label is not None
    first, second = (case.frame_at(share * case.duration) / case.fps for share in (0.4, 0.6))
    action = ACTIONS[case.plan.label]
    found = [(0.0, first, action), (first, second, NO_ACTION), (second, case.duration, action)]
    return [segment for segment in found if segment[1] > segment[0]]


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / "videos" / f"{case.id}.mp4")


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    rows = [(case.id, f"{start:g}", f"{end:g}", action) for case in cases for start, end, action in segments(case)]
    write_table(out / "segments.csv", ("video_id", "start", "end", "action"), rows)
    write_table(out / "classes.csv", ("action_id", "name"), enumerate(ACTIONS))


LAYOUT = Layout("avos", SPECIALTY, 5.0, plan, write_case, write_index)
