"""Writes simulated operations as Cholec80 lies on disk: videos, and phase names at 25 rows a second."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.cholec80 import ANNOTATION_FPS, CLASSES, TEST, TRAIN, VAL
from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits


def write_case(case: SimulatedCase, out: Path) -> None:
    write_mp4(case, out / "videos" / f"{case.id}.mp4")
    rows = [(row, CLASSES[case.phase_at(row / ANNOTATION_FPS)]) for row in range(case.moments(ANNOTATION_FPS))]
    write_table(out / "phase_annotations" / f"{case.id}-phase.txt", ("Frame", "Phase"), rows, "\t")


SPECIALTY = "laparoscopic"
PLAN = plans_over_splits({"train": TRAIN, "val": VAL, "test": TEST}, plain_vocabulary(len(CLASSES)), SPECIALTY)
LAYOUT = Layout("cholec80", SPECIALTY, 5.0, PLAN, write_case)
