"""PmLR50: 50 laparoscopic liver resections with phases (Guo et al., Surgical workflow recognition and blocking
effectiveness detection in laparoscopic liver resection with Pringle maneuver)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.phases import phase_case
from surgmotion_jax.benchmarks.safe_pickle import load_plain

CLASSES = (
    "Preparation",
    "Knotting of Foley catheter",
    "Liver resection procedure",
    "Release of Foley catheter",
    "Postprocessing",
)
LABELS = {
    "train": "labels/train/1fpstrain.pickle",
    "val": "labels/test/1fpstest.pickle",
    "test": "labels/infer/1fpsinfer.pickle",
}
LAYOUT = """ROOT/
  labels/train/1fpstrain.pickle    {video: [{"frame_id": int, "phase_gt": 0 to 4, ...}, ...]}, an entry a second
  labels/test/1fpstest.pickle      validates
  labels/infer/1fpsinfer.pickle    tests
  frames/VIDEO/XXXXXXXX.jpg        the image of an entry: its frame_id with eight digits
Pickles are read without running them: a file that holds anything but plain data is refused."""


def read(root: Path, protocol: str) -> Contents:
    """Every video that the three pickles list. Entries may hold more than the two fields that are read."""
    cases = {split: tuple(_split(root, root / file)) for split, file in LABELS.items()}
    return Contents(BENCHMARK.name, protocol, {"phase": CLASSES}, cases)


def _split(root: Path, path: Path) -> list[Case]:
    listed = load_plain(path)
    if not isinstance(listed, dict) or not listed:
        raise BenchmarkError(path, f"a {type(listed).__name__}", "a dict from video to its entries", "restore the file")
    return [_case(root, path, str(video), entries) for video, entries in listed.items()]


def _case(root: Path, path: Path, video: str, entries: Any) -> Case:
    if not isinstance(entries, list) or not entries:
        raise BenchmarkError(
            path, f"{type(entries).__name__} for video {video}", "a list of entries", "restore the file"
        )
    if Path(video).name != video:
        raise BenchmarkError(path, f"the video name {video!r}", "a plain name", "restore the file")
    numbers = [_field(path, video, place, entry, "frame_id", None) for place, entry in enumerate(entries)]
    phases = [_field(path, video, place, entry, "phase_gt", len(CLASSES) - 1) for place, entry in enumerate(entries)]
    for place, (before, number) in enumerate(pairwise(numbers), 1):
        if number != before + 1:
            asks = f"frame_id {before + 1}, an entry for each image"
            raise BenchmarkError(path, f"frame_id {number}", asks, "restore the file", at=f"{video} entry {place}")
    paths = tuple(root / "frames" / video / f"{number:08d}.jpg" for number in numbers)
    missing = [image for image in paths if not image.is_file()]
    if missing:
        found = f"no such file (and {len(missing) - 1} more of this video)"
        raise BenchmarkError(missing[0], found, f"an image for each entry of {path}", "extract it again")
    return phase_case(video, ImageFrames(paths, 1.0), range(len(paths)), phases, path)


def _field(path: Path, video: str, place: int, entry: Any, name: str, high: int | None) -> int:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, int) or value < 0 or (high is not None and value > high):
        asks = f"an integer from 0{f' to {high}' if high is not None else ''}"
        raise BenchmarkError(path, f"{name} {value!r}", asks, "correct the entry", at=f"{video} entry {place}")
    return value


BENCHMARK = Benchmark("pmlr50", "PmLR50", "workflow", "phase", LAYOUT, ("official",), read)
