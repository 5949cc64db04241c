"""EgoSurgery-Phase: open surgery seen from the surgeon's head, with phases (Fujii et al., arXiv 2405.19644)."""

from __future__ import annotations

import re
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import folder, stems
from surgmotion_jax.benchmarks.phases import phase_case
from surgmotion_jax.benchmarks.splits import by_split, split_table
from surgmotion_jax.benchmarks.tables import Row, read_table

CLASSES = (
    "disinfection",
    "design",
    "anesthesia",
    "incision",
    "dissection",
    "hemostasis",
    "irrigation",
    "closure",
    "dressing",
)
FPS = 0.5  # 15 hours in 27,694 images
TRAIN = tuple(f"{number:02d}" for number in (1, 2, 3, 4, 8, 9, 11, 13, 14, 15, 17, 20, 21))
VAL = ("05", "19")
TEST = tuple(f"{number:02d}" for number in (6, 7, 10, 12, 18))
LAYOUT = """ROOT/
  annotations/phase/XX_Y.csv    `Frame,Phase`: name of an image without suffix, name of its phase; Y is a segment of XX
  frames/XX/NAME.jpg            the images of all segments of a video, half an image a second, named XX_Y_NUMBER
A case is a segment; splits go by video: 13 train, 5 and 19 validate, 6, 7, 10, 12 and 18 test."""


def read(root: Path, protocol: str) -> Contents:
    """Every segment that has an annotation."""
    ids = stems(root / "annotations/phase", ".csv", r"(\d\d_\d+)", LAYOUT)
    split_of = split_table(train=TRAIN, val=VAL, test=TEST)
    cases = by_split([_case(root, name) for name in ids], split_of)
    present = {name.partition("_")[0] for name in ids}
    absent = tuple(name for name in split_of if name not in present)
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, cases, absent)


def _case(root: Path, name: str) -> Case:
    annotation, video = root / "annotations/phase" / f"{name}.csv", name.partition("_")[0]
    images = {path.stem: path for path in folder(root / "frames" / video, LAYOUT).iterdir() if path.suffix == ".jpg"}
    rows = read_table(annotation, ("Frame", "Phase"))
    phases = [row.choice("Phase", CLASSES) for row in rows]
    paths = tuple(_image(row, images, root / "frames" / video) for row in rows)
    _check_order(rows)
    _check_complete(name, rows, images)
    times = [place / FPS for place in range(len(rows))]
    return phase_case(name, ImageFrames(paths, FPS), times, phases, annotation, video)


def _image(row: Row, images: dict[str, Path], where: Path) -> Path:
    name = row.text("Frame")
    if name not in images:
        raise row.error(f"Frame {name!r}", f"an image {name}.jpg in {where}", "put the image there")
    return images[name]


def _check_order(rows: list[Row]) -> None:
    before = -1
    for row in rows:
        number = re.search(r"(\d+)$", row.text("Frame"))
        if number is None or int(number[1]) <= before:
            asks = "names that end in a number, ascending"
            raise row.error(f"Frame {row.text('Frame')!r} after number {before}", asks, "sort the rows")
        before = int(number[1])


def _check_complete(name: str, rows: list[Row], images: dict[str, Path]) -> None:
    """Images of this segment that no row names would silently go without a label."""
    named = {row.text("Frame") for row in rows}
    left = sorted(stem for stem in images if stem.startswith(f"{name}_") and stem not in named)
    if left:
        found = f"no row for {len(left)} images, the first {images[left[0]]}"
        raise BenchmarkError(rows[0].file, found, "a row for each image of the segment", "restore the annotation")


BENCHMARK = Benchmark("egosurgery", "EgoSurgery-Phase", "workflow", "phase", LAYOUT, ("official",), read)
