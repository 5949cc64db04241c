"""Writes simulated laparoscopy as Hamlyn is read: images with 16-bit depth in millimetres, and a table of splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.simulate.layouts.depth_images import body_moments, depth_units
from surgmotion_jax.simulate.layouts.files import write_image, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

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
PLAN = plans_over_splits(IDS, plain_vocabulary(1), SPECIALTY)
LAYOUT = Layout("hamlyn", SPECIALTY, RATE, PLAN, write_case, write_index)
