"""Hamlyn: laparoscopic stereo video with depth by stereo matching, as rectified for Endo-Depth-and-Motion.

Recasens et al., arXiv 2103.16525. No official split is known, so it is read from the user's table.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks import frames, splits
from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.depth_files import depth_size, image_size, require_same_size
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tables import read_table
from surgmotion_jax.data.images import IMAGE_SUFFIXES, natural_key

LAYOUT = (
    "rectifiedNN/{image01,depth01}/NUMBER.jpg and .png, 16-bit depth in millimetres, and splits.csv with the columns"
    " sequence,split (rectifiedNN; train, val, test)"
)

FPS = 1.0
"""Images are taken one at a time, in the order of their numbers; no rate is implied."""


def read(root: Path, protocol: str) -> Contents:
    """Every sequence. Without a val split in the table, sequences are held out of train. Raises BenchmarkError."""
    split_of: dict[str, str] = {}
    for row in read_table(root / "splits.csv", ("sequence", "split")):
        sequence = row.text("sequence")
        if sequence in split_of:
            raise row.error(f"{sequence} again", "one line for each sequence", "keep one of the lines")
        split_of[sequence] = SPLITS[row.choice("split", SPLITS)]
    folders = [path for path in frames.subfolders(root, LAYOUT) if re.fullmatch(r"rectified\d+", path.name)]
    if not folders:
        raise BenchmarkError(root, "no folder rectifiedNN", LAYOUT, "check --root")
    cases = splits.by_split([_case(folder, root / "splits.csv") for folder in folders], split_of)
    if not cases["val"]:
        cases |= splits.hold_out_cases(cases["train"])
    absent = tuple(sorted(set(split_of) - {folder.name for folder in folders}))
    return Contents("hamlyn", protocol, {}, cases, absent)


def _case(folder: Path, table: Path) -> Case:
    images, depths = (_files(folder / part) for part in ("image01", "depth01"))
    for number in sorted({*images, *depths}):
        if number not in images or number not in depths:
            have, lack = (images, "depth map") if number in images else (depths, "image")
            asks = "an image and a depth map each"
            raise BenchmarkError(have[number], f"no {lack} of that number", asks, "restore the pair")
    first = min(images)
    require_same_size(depths[first], depth_size(depths[first]), images[first], image_size(images[first]))
    numbers = sorted(images)
    return Case(
        folder.name,
        folder.name,
        ImageFrames(tuple(images[number] for number in numbers), FPS),
        np.arange(len(numbers)) / FPS,
        depths=tuple(depths[number] for number in numbers),
        annotation=table,
    )


def _files(folder: Path) -> dict[int, Path]:
    """Images of a folder by number."""
    found: dict[int, Path] = {}
    for path in sorted(frames.folder(folder, LAYOUT).iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith("."):
            continue
        if not path.stem.isdecimal() or path.suffix.lower() not in IMAGE_SUFFIXES or int(path.stem) in found:
            asks = f"one image for each number, ending in {', '.join(IMAGE_SUFFIXES)}"
            raise BenchmarkError(path, "a file of another name, or a number again", asks, "move it out of the folder")
        found[int(path.stem)] = path
    if not found:
        raise BenchmarkError(folder, "no image", LAYOUT, "put the images there")
    return found


BENCHMARK = Benchmark("hamlyn", "Hamlyn", "depth", "depth", LAYOUT, ("table",), read)
