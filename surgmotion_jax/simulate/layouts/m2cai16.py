"""Writes simulated operations as M2CAI16-workflow lies on disk: images a second, phase names at 25 rows a second."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.m2cai16 import ANNOTATION_FPS, CLASSES, TEST, TRAIN, VAL
from surgmotion_jax.simulate.layouts.files import write_images, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits


def write_case(case: SimulatedCase, out: Path) -> None:
    write_images(case, 1.0, lambda k: out / "frames" / case.id / f"{case.id}_{k + 1:08d}.jpg")
    rows = [(row, CLASSES[case.phase_at(row / ANNOTATION_FPS)]) for row in range(case.moments(ANNOTATION_FPS))]
    folder = out / ("test_dataset" if case.plan.split == "test" else "train_dataset")
    write_table(folder / f"{case.id}.txt", ("Frame", "Phase"), rows, "\t")
    # The real set has these beside the labels; a reader must pass them over.
    stamps = [(row, f"{row / ANNOTATION_FPS:.2f}") for row in range(0, len(rows), ANNOTATION_FPS)]
    write_table(folder / f"{case.id}_timestamp.txt", ("Frame", "Time"), stamps, "\t")


def _file_names(groups: tuple[str, ...]) -> list[str]:
    """`train07` is workflow_video07 in the folder of the training set."""
    prefix = {"train": "workflow_video", "test": "test_workflow_video"}
    return [prefix[group[:-2]] + group[-2:] for group in groups]


SPECIALTY = "laparoscopic"
IDS = {"train": _file_names(TRAIN), "val": _file_names(VAL), "test": _file_names(TEST)}
LAYOUT = Layout(
    "m2cai16", SPECIALTY, 1.0, plans_over_splits(IDS, plain_vocabulary(len(CLASSES)), SPECIALTY), write_case
)
