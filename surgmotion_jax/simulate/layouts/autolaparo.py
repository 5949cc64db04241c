"""Writes simulated operations as AutoLaparo lies on disk: an image and a phase number (1 to 7) a second."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.autolaparo import CLASSES, TEST, TRAIN, VAL
from surgmotion_jax.simulate.layouts.files import write_images, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits


def write_case(case: SimulatedCase, out: Path) -> None:
    write_images(case, 1.0, lambda k: out / "frames" / case.id / f"{case.id}_{k + 1:08d}.jpg")
    rows = [(second + 1, case.phase_at(second) + 1) for second in range(case.moments(1.0))]
    write_table(out / "labels" / f"label_{case.id}.txt", ("Frame", "Phase"), rows, "\t")


SPECIALTY = "laparoscopic"
PLAN = plans_over_splits({"train": TRAIN, "val": VAL, "test": TEST}, plain_vocabulary(len(CLASSES)), SPECIALTY)
LAYOUT = Layout("autolaparo", SPECIALTY, 1.0, PLAN, write_case)
