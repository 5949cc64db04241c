"""Writes simulated operations as EgoSurgery-Phase lies on disk: half an image a second, in segments of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.egosurgery import CLASSES, FPS, TEST, TRAIN, VAL
from surgmotion_jax.simulate.layouts.files import write_images, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary, spread_over_splits

SPECIALTY = "open"
SEGMENTS = 2  # of each video that has more than one


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Segments XX_1; from a case more than videos on, XX_2 of the first videos too."""
    del seed
    ids = {"train": TRAIN, "val": VAL, "test": TEST}
    segments = {split: [f"{v}_{y}" for y in range(1, SEGMENTS + 1) for v in videos] for split, videos in ids.items()}
    vocabulary = plain_vocabulary(len(CLASSES))
    return [CasePlan(name, split, vocabulary, SPECIALTY) for name, split in spread_over_splits(segments, cases)]


def write_case(case: SimulatedCase, out: Path) -> None:
    names = [f"{case.id}_{k + 1:05d}" for k in range(case.moments(FPS))]
    write_images(case, FPS, lambda k: out / "frames" / case.id.partition("_")[0] / f"{names[k]}.jpg")
    rows = [(name, CLASSES[case.phase_at(k / FPS)]) for k, name in enumerate(names)]
    write_table(out / "annotations/phase" / f"{case.id}.csv", ("Frame", "Phase"), rows)


LAYOUT = Layout("egosurgery", SPECIALTY, FPS, plan, write_case)
