"""Writes a mixed folder of videos for pretraining: all specialties, and a table of each that a source names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.simulate.case import SPECIALTIES
from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary

PHASES = 7


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Specialties in turn."""
    del seed
    if cases < 1:
        raise ValueError(f"--cases is {cases}; ask for at least 1")
    vocabulary = plain_vocabulary(PHASES)
    return [
        CasePlan(f"{specialty}_{number:04d}", "train", vocabulary, specialty, lesion=number % 8 == 1)
        for number in range(cases)
        for specialty in [SPECIALTIES[number % len(SPECIALTIES)]]
    ]


def path_of(case: SimulatedCase) -> str:
    """Place of a video below the data set's folder."""
    return f"videos/{case.plan.specialty}/{case.id}.mp4"


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / path_of(case))


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    """A table for each specialty: the sampling rule counts sources by specialty, so each is a source."""
    for specialty in SPECIALTIES:
        rows = [(path_of(case), case.id, specialty) for case in cases if case.plan.specialty == specialty]
        if rows:
            write_table(out / f"{specialty}.csv", ("path", "case", "specialty"), rows)


LAYOUT = Layout("pretrain", "laparoscopic", 10.0, plan, write_case, write_index)
