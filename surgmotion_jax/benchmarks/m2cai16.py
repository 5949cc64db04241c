"""M2CAI16-workflow: 41 cholecystectomies with phases (M2CAI challenge 2016; Stauder et al., arXiv 1610.09278)."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import folder, numbered_images, video_file
from surgmotion_jax.benchmarks.phases import each_second, phase_case
from surgmotion_jax.benchmarks.splits import by_split, hold_out_validation, split_table
from surgmotion_jax.data.images import natural_key

CLASSES = (
    "TrocarPlacement",
    "Preparation",
    "CalotTriangleDissection",
    "ClippingCutting",
    "GallbladderDissection",
    "GallbladderPackaging",
    "CleaningCoagulation",
    "GallbladderRetraction",
)
ANNOTATION_FPS = 25
OFFICIAL_TRAIN = tuple(f"train{number:02d}" for number in range(1, 28))
TEST = tuple(f"test{number:02d}" for number in range(1, 15))
VAL = tuple(sorted(hold_out_validation(OFFICIAL_TRAIN, count=5)))  # none is official
TRAIN = tuple(name for name in OFFICIAL_TRAIN if name not in VAL)
NOT_LABELS = ("_timestamp", "_pred")
LAYOUT = """ROOT/
  train_dataset/workflow_videoXX.txt        tab-separated `Frame Phase`, a row for every frame at 25 fps, phase names
  test_dataset/test_workflow_videoXX.txt    (files ending in _timestamp or _pred are not read)
  train_dataset/NAME.mp4, test_dataset/NAME.mp4, or frames/NAME/NAME_%08d.jpg, one image a second from 1
The folder says the split: 27 videos train, of which five validate, 14 test."""


def read(root: Path, protocol: str) -> Contents:
    """Every case that has an annotation. Its group is the folder and the number at the end of its name."""
    cases = [_case(root, file, part) for part in ("train", "test") for file in _annotations(root / f"{part}_dataset")]
    split_of = split_table(train=TRAIN, val=VAL, test=TEST)
    present = {case.group for case in cases}
    absent = tuple(name for name in split_of if name not in present)
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, by_split(cases, split_of), absent)


def _annotations(path: Path) -> list[Path]:
    files = [file for file in folder(path, LAYOUT).glob("*.txt") if not file.stem.endswith(NOT_LABELS)]
    if not files:
        raise BenchmarkError(path, "no *.txt file", LAYOUT, "put the annotations there")
    return sorted(files, key=lambda file: natural_key(file.name))


def _case(root: Path, annotation: Path, part: str) -> Case:
    name = annotation.stem
    number = name[len(name.rstrip("0123456789")) :]
    if not number:
        raise BenchmarkError(annotation, "a name without a number", LAYOUT, "rename the file or move it away")
    times, phases = each_second(annotation, "\t", ANNOTATION_FPS, lambda row: row.choice("Phase", CLASSES))
    if (root / "frames").is_dir():
        images = numbered_images(root / "frames" / name, rf"{name}_(\d+)", 1.0)
        return phase_case(name, images, times, phases, annotation, f"{part}{int(number):02d}")
    video = video_file(root / f"{part}_dataset" / f"{name}.mp4")
    return phase_case(name, video, times, phases, annotation, f"{part}{int(number):02d}")


BENCHMARK = Benchmark("m2cai16", "M2CAI16-workflow", "workflow", "phase", LAYOUT, ("official",), read)
