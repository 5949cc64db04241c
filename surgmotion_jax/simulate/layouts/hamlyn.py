"""Writes simulated laparoscopy as Hamlyn is read: images with 16-bit depth in millimetres, and a table of splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.simulate.layouts.depth_images import body_moments, depth_units
from surgmotion_jax.simulate.layouts.files import write_image, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary, plans_over_splits

SPECIALTY = "laparoscopic"
RATE = 1.0  # images per second that are kept


def write_case(case: SimulatedCase, out: Path) -> None:
    kept = set(body_moments(case, RATE))
    for k, frame in case.at_rate(RATE):
        if k not in kept:
            continue
        write_image(out / case.id / "image01" / f"{k:010d}.jpg", frame.video_HxWx3)
        write_image(out / case.id / "depth01" / f"{k:010d}.png", depth_units(frame, 1.0))


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    write_table(out / "splits.csv", ("sequence", "split"), [(case.id, case.plan.split) for case in cases])


NAMES = [f"rectified{number:02d}" for number in range(1, 23)]
IDS = {"train": NAMES[:15], "val": NAMES[15:18], "test": NAMES[18:]}
VOCABULARY = plain_vocabulary(1)


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """The real set's sequences; more of them go on counting, and are dealt over the splits as those are.

    The set has no official split, so that a table may name as many as there are.
    """
    found = list(plans_over_splits(IDS, VOCABULARY, SPECIALTY)(min(cases, len(NAMES)), seed))
    split_of = {name: split for split, names in IDS.items() for name in names}
    for number in range(len(NAMES), cases):
        split = split_of[NAMES[number % len(NAMES)]]
        found.append(CasePlan(f"rectified{number + 1:02d}", split, VOCABULARY, SPECIALTY))
    return found


LAYOUT = Layout("hamlyn", SPECIALTY, RATE, plan, write_case, write_index)
