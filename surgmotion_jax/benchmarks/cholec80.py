"""Cholec80: 80 cholecystectomies with phases (Twinanda et al., EndoNet, arXiv 1602.03012)."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.frames import folder, numbered_images, stems, video_file
from surgmotion_jax.benchmarks.phases import each_second, phase_case
from surgmotion_jax.benchmarks.splits import by_split, hold_out_validation, split_table

CLASSES = (
    "Preparation",
    "CalotTriangleDissection",
    "ClippingCutting",
    "GallbladderDissection",
    "GallbladderPackaging",
    "CleaningCoagulation",
    "GallbladderRetraction",
)
ANNOTATION_FPS = 25
FRAME_STEP = 25  # between the numbers of images extracted once a second
OFFICIAL_TRAIN = tuple(f"video{number:02d}" for number in range(1, 41))
TEST = tuple(f"video{number:02d}" for number in range(41, 81))
VAL = tuple(sorted(hold_out_validation(OFFICIAL_TRAIN, count=8)))  # none is official
TRAIN = tuple(name for name in OFFICIAL_TRAIN if name not in VAL)
LAYOUT = """ROOT/
  phase_annotations/videoXX-phase.txt   tab-separated `Frame Phase`, a row for every frame at 25 fps, phase names
  videos/videoXX.mp4                    or frames/videoXX/*.jpg, one image a second, numbered in steps of 25
Videos 41 to 80 test; of videos 1 to 40, eight validate."""


def read(root: Path, protocol: str) -> Contents:
    """Every case that has an annotation; missing frames are an error, missing cases are not."""
    annotations = root / "phase_annotations"
    ids = stems(annotations, ".txt", r"(video\d\d)-phase", LAYOUT)
    split_of = split_table(train=TRAIN, val=VAL, test=TEST)
    cases = by_split([_case(root, name) for name in ids], split_of)
    absent = tuple(name for name in split_of if name not in ids)
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, cases, absent)


def _case(root: Path, name: str) -> Case:
    annotation = root / "phase_annotations" / f"{name}-phase.txt"
    times, phases = each_second(annotation, "\t", ANNOTATION_FPS, lambda row: row.choice("Phase", CLASSES))
    if (root / "frames").is_dir():
        images = folder(root / "frames" / name, LAYOUT)
        return phase_case(name, numbered_images(images, r"\D*(\d+)", 1.0, FRAME_STEP), times, phases, annotation)
    return phase_case(name, video_file(root / "videos" / f"{name}.mp4"), times, phases, annotation)


BENCHMARK = Benchmark("cholec80", "Cholec80", "workflow", "phase", LAYOUT, ("official",), read)
