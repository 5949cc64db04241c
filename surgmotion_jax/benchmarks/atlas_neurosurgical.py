"""Phases of neurosurgical video in a layout of the user's own: no public data set of this name exists."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents
from surgmotion_jax.benchmarks.frames import numbered_images, video_file
from surgmotion_jax.benchmarks.phases import phase_case
from surgmotion_jax.benchmarks.splits import hold_out_cases
from surgmotion_jax.benchmarks.tables import Row, read_names, read_table

LAYOUT = """ROOT/
  classes.csv             `id,name`, ids from 0
  cases.csv               `case,patient,split`: train, val or test; without any val, a fifth of the patients in train
  annotations/CASE.csv    `second,phase`, phase as an id; a second that is not to be scored is left out
  videos/CASE.mp4         or frames/CASE/*.jpg, one image a second
Cases of one patient lie in one split."""


def read(root: Path, protocol: str) -> Contents:
    """Every case of cases.csv."""
    classes = read_names(root / "classes.csv", "id")
    cases: dict[str, list[Case]] = {split: [] for split in SPLITS}
    for row in read_table(root / "cases.csv", ("case", "patient", "split")):
        cases[SPLITS[row.choice("split", SPLITS)]].append(_case(root, row, classes))
    found = {split: tuple(members) for split, members in cases.items()}
    if not found["val"] and len({case.group for case in found["train"]}) > 1:
        found |= hold_out_cases(found["train"])
    return Contents(BENCHMARK.name, protocol, {"phase": classes}, found)


def _case(root: Path, row: Row, classes: tuple[str, ...]) -> Case:
    name, patient = row.name("case"), row.text("patient")
    annotation, seconds, phases = root / "annotations" / f"{name}.csv", list[int](), list[int]()
    for moment in read_table(annotation, ("second", "phase")):
        second = moment.integer("second", low=seconds[-1] + 1 if seconds else 0)
        seconds.append(second)
        phases.append(moment.integer("phase", 0, len(classes) - 1))
    if (root / "frames" / name).is_dir():
        frames = numbered_images(root / "frames" / name, r"\D*(\d+)", 1.0)
        return phase_case(name, frames, seconds, phases, annotation, patient)
    return phase_case(name, video_file(root / "videos" / f"{name}.mp4"), seconds, phases, annotation, patient)


BENCHMARK = Benchmark("atlas_neurosurgical", "Atlas-Neurosurgical", "workflow", "phase", LAYOUT, ("user",), read)
