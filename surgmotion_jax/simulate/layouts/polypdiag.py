"""Writes simulated colonoscopy as PolypDiag lies on disk: clips, and two lists that say which show a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary

SPECIALTY = "endoscopic"
FEWEST = 6  # two clips of each class to train and validate on, one of each to test


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Half of the clips with a lesion; one clip in three is for testing, as of the real set about one in three is."""
    del seed
    if cases < FEWEST:
        raise ValueError(f"--cases is {cases}; this data set needs at least {FEWEST} clips")
    vocabulary = plain_vocabulary(1)
    return [
        CasePlan(
            f"clip_{number:03d}",
            "test" if number // 2 % 3 == 2 else "train",
            vocabulary,
            SPECIALTY,
            lesion=bool(number % 2),
            label=number % 2,
        )
        for number in range(cases)
    ]


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / "videos" / f"{case.id}.mp4")


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    for split, name in (("train", "train.txt"), ("test", "val.txt")):
        rows = [(f"{case.id}.mp4", case.plan.label) for case in cases if case.plan.split == split]
        write_table(out / "splits" / name, None, rows)


LAYOUT = Layout("polypdiag", SPECIALTY, 5.0, plan, write_case, write_index)
