"""Writes simulated operations in the layout that users fill with neurosurgical video of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

PHASES = 7


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / "videos" / f"{case.id}.mp4")
    rows = [(second, case.phase_at(second)) for second in range(case.moments(1.0))]
    write_table(out / "annotations" / f"{case.id}.csv", ("second", "phase"), rows)


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    write_table(out / "classes.csv", ("id", "name"), [(phase, f"phase {phase}") for phase in range(PHASES)])
    rows = [(case.id, f"patient_{case.id}", case.plan.split) for case in cases]
    write_table(out / "cases.csv", ("case", "patient", "split"), rows)


SPECIALTY = "microscopic"
NUMBERS = [f"neuro_{number:03d}" for number in range(1, 101)]
IDS = {"train": NUMBERS[:70], "val": NUMBERS[70:80], "test": NUMBERS[80:]}
PLAN = plans_over_splits(IDS, plain_vocabulary(PHASES), SPECIALTY)
LAYOUT = Layout("atlas_neurosurgical", SPECIALTY, 5.0, PLAN, write_case, write_index)
