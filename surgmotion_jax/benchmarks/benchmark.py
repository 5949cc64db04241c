"""What a benchmark is: a row of facts and a reader from the data set's own folder to cases.

Letters: N scored moments of a case, K label columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FAMILIES = ("workflow", "action", "presence", "triplet", "skill", "segmentation", "depth")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class VideoFrames:
    """Frames of a case inside one video file."""

    path: Path  # the video
    start_s: float = 0.0  # where the case begins in it, in seconds
    end_s: float = float("inf")  # and where it ends


@dataclass(frozen=True)
class ImageFrames:
    """Frames of a case as image files in display order."""

    paths: tuple[Path, ...]
    fps: float = 1.0  # images per second of the case


@dataclass(frozen=True, eq=False)
class Case:
    """A procedure, clip or image sequence with its annotation. `times_N` holds the scored moments and nothing else:
    a moment without a usable label is not among them, so no label is ever -1."""

    id: str  # unique within the benchmark
    group: str  # what a split never cuts in two: patient, procedure or source video
    frames: VideoFrames | ImageFrames
    times_N: np.ndarray  # float64 seconds from the start of the case, ascending; one entry for per-case labels
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N] or [N,K]: class ids, 0/1 columns, or scores
    masks: tuple[Path, ...] = ()  # one image file per scored moment
    depths: tuple[Path, ...] = ()  # one file per scored moment
    depth_scale: float = 1.0  # millimetres per unit of the depth files
    annotation: Path | None = None  # the file that the labels come from


@dataclass(frozen=True, eq=False)
class Contents:
    """A data set as read from a root, under one protocol."""

    benchmark: str  # name of the row
    protocol: str  # which of the declared splits or folds
    classes: Mapping[str, tuple[str, ...]]  # names by label, in id order
    cases: Mapping[str, tuple[Case, ...]]  # by split
    absent: tuple[str, ...] = ()  # cases of the official lists that are not on disk: a part of a set is still a set


@dataclass(frozen=True)
class Benchmark:
    """One row: what the data set is, how it is split, and how it lies on disk."""

    name: str  # as given on the command line
    title: str
    family: str  # one of FAMILIES
    label: str  # the label (or `mask`, `depth`) that is scored
    layout: str  # what `read` expects on disk, shown when something is missing
    protocols: tuple[str, ...]  # the first is the default
    read: Callable[[Path, str], Contents]  # (root, protocol)
    pooled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # folds whose test cases are scored as one
    at: Callable[[Path], Benchmark] | None = None  # the row of one root, where family or folds depend on it
