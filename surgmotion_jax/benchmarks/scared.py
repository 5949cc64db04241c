"""SCARED: structured-light depth of porcine abdomens, keyframes of 9 subjects.

Allan et al., "Stereo Correspondence and Reconstruction of Endoscopic Data Challenge", arXiv 2101.01133: subjects 1 to
7 for training, 8 and 9 for testing. Depth maps hold a point (x, y, z) in millimetres for each pixel of the left view.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks import frames, splits
from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.depth_files import depth_size, image_size, require_same_size
from surgmotion_jax.benchmarks.errors import BenchmarkError

LAYOUT = "dataset_D/keyframe_K/{Left_Image.png, left_depth_map.tiff}, float TIFFs of [H, W, 3]"

TRAIN = tuple(f"dataset_{number}" for number in range(1, 8))
TEST = ("dataset_8", "dataset_9")
VALIDATION = tuple(splits.hold_out_validation(TRAIN, count=1))
"""Held out of `TRAIN`, since the challenge names none."""


def read(root: Path, protocol: str) -> Contents:
    """Every keyframe. One training subject is held out for validation. Raises BenchmarkError."""
    rest = [name for name in TRAIN if name not in VALIDATION]
    split_of = splits.split_table(train=rest, val=VALIDATION, test=TEST)
    cases = []
    for subject in _numbered(root, "dataset"):
        if subject.name not in split_of:
            raise BenchmarkError(subject, "another subject", "dataset_1 to dataset_9", "move it out or rename it")
        cases += [_case(keyframe, subject.name) for keyframe in _numbered(subject, "keyframe")]
    absent = tuple(sorted(set(split_of) - {case.group for case in cases}))
    return Contents("scared", protocol, {}, splits.by_split(cases, split_of), absent)


def _numbered(folder: Path, kind: str) -> list[Path]:
    found = [path for path in frames.subfolders(folder, LAYOUT) if re.fullmatch(rf"{kind}_\d+", path.name)]
    if not found:
        raise BenchmarkError(folder, f"no folder {kind}_N", LAYOUT, "check --root, or put the folders there")
    return found


def _case(folder: Path, subject: str) -> Case:
    image, depth = folder / "Left_Image.png", folder / "left_depth_map.tiff"
    size = image_size(image)
    if not depth.is_file():
        raise BenchmarkError(depth, "no such file", "the depth map of this keyframe", "put it there")
    require_same_size(depth, depth_size(depth), image, size)
    name = f"{subject}/{folder.name}"
    return Case(name, subject, ImageFrames((image,)), np.zeros(1), depths=(depth,), annotation=depth)


BENCHMARK = Benchmark("scared", "SCARED", "depth", "depth", LAYOUT, ("challenge",), read)
