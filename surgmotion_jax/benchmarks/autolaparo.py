"""AutoLaparo: 21 hysterectomies with phases (Wang et al., arXiv 2208.02049)."""

from __future__ import annotations

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.frames import check_count, numbered_images, stems, video_file
from surgmotion_jax.benchmarks.phases import each_second, phase_case
from surgmotion_jax.benchmarks.splits import by_split, split_table

CLASSES = (
    "Preparation",
    "Dividing Ligament and Peritoneum",
    "Dividing Uterine Vessels and Ligament",
    "Transecting the Vagina",
    "Specimen Removal",
    "Suturing",
    "Washing",
)
TRAIN = tuple(f"{number:02d}" for number in range(1, 11))
VAL = tuple(f"{number:02d}" for number in range(11, 15))
TEST = tuple(f"{number:02d}" for number in range(15, 22))
LAYOUT = """ROOT/
  labels/label_XX.txt            `Frame Phase`, a row a second, phases 1 to 7
  frames/XX/XX_XXXXXXXX.jpg      an image a second, or videos/XX.mp4
Videos 1 to 10 train, 11 to 14 validate, 15 to 21 test."""


def read(root: Path, protocol: str) -> Contents:
    """Every case that has an annotation."""
    ids = stems(root / "labels", ".txt", r"label_(\d\d)", LAYOUT)
    split_of = split_table(train=TRAIN, val=VAL, test=TEST)
    cases = by_split([_case(root, name) for name in ids], split_of)
    absent = tuple(name for name in split_of if name not in ids)
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, cases, absent)


def _case(root: Path, name: str) -> Case:
    annotation = root / "labels" / f"label_{name}.txt"
    times, phases = each_second(annotation, None, 1, lambda row: row.integer("Phase", 1, len(CLASSES)) - 1)
    if not (root / "frames").is_dir():
        return phase_case(name, video_file(root / "videos" / f"{name}.mp4"), times, phases, annotation)
    images = numbered_images(root / "frames" / name, rf"{name}_(\d+)", 1.0)
    check_count(images, len(times), annotation)
    return phase_case(name, images, times, phases, annotation)


BENCHMARK = Benchmark("autolaparo", "AutoLaparo", "workflow", "phase", LAYOUT, ("official",), read)
