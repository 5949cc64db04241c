"""OphNet2024: phases of ophthalmic microsurgery as trimmed intervals (Hu et al., arXiv 2406.07471)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import numbered_images, video_file
from surgmotion_jax.benchmarks.phases import phase_case
from surgmotion_jax.benchmarks.tables import Row, read_names, read_table
from surgmotion_jax.data.images import natural_key

CLASS_COUNT = 96
TABLE = "OphNet2024_loca_challenge_phase.csv"
COLUMNS = ("video_id", "start", "end", "phase_id", "split")
LAYOUT = f"""ROOT/
  {TABLE}   `video_id,start,end,phase_id,split`: seconds, phase 0 to 95, train, val or test
  phases.csv                                `phase_id,name`, 96 rows; without it classes are named by their number
  frames/VIDEO_K/*.jpg                      one image a second; K numbers the intervals of a video by their start
  videos/VIDEO.mp4                          read instead where there is no frames folder
A case is an interval, scored every second; splits go by video."""


def read(root: Path, protocol: str) -> Contents:
    """Every interval of the table."""
    rows_of: dict[str, list[Row]] = {}
    for row in read_table(root / TABLE, COLUMNS):
        rows_of.setdefault(row.name("video_id"), []).append(row)
    cases: dict[str, list[Case]] = {split: [] for split in SPLITS}
    for video, listed in rows_of.items():
        split = SPLITS[listed[0].choice("split", SPLITS)]
        _check_intervals(listed)
        rows = sorted(listed, key=lambda row: row.number("start"))
        frames = _image_folders(root, video, rows) if (root / "frames").is_dir() else _intervals(root, video, rows)
        cases[split] += [_case(video, place, row, frames[place]) for place, row in enumerate(rows)]
    classes = {"phase": _names(root / "phases.csv")}
    return Contents(BENCHMARK.name, protocol, classes, {split: tuple(found) for split, found in cases.items()})


def _case(video: str, place: int, row: Row, frames: VideoFrames | ImageFrames) -> Case:
    phase = row.integer("phase_id")
    seconds = len(frames.paths) if isinstance(frames, ImageFrames) else row.number("end") - row.number("start")
    moments = math.ceil(seconds - 1e-6)
    return phase_case(f"{video}_{place}", frames, range(moments), [phase] * moments, row.file, video)


def _check_intervals(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.text("split") != rows[0].text("split"):
            asks = f"{rows[0].text('split')} for every interval of video {row.text('video_id')}"
            raise row.error(f"split {row.text('split')}", asks, "splits go by video: correct the table")
        row.integer("phase_id", 0, CLASS_COUNT - 1)
        if row.number("end") <= row.number("start", low=0):
            raise row.error(f"end {row.text('end')}", f"more than start {row.text('start')}", "correct the interval")


def _intervals(root: Path, video: str, rows: Sequence[Row]) -> list[VideoFrames | ImageFrames]:
    path = video_file(root / "videos" / f"{video}.mp4").path
    return [VideoFrames(path, row.number("start"), row.number("end")) for row in rows]


def _image_folders(root: Path, video: str, rows: Sequence[Row]) -> list[VideoFrames | ImageFrames]:
    named = (path for path in (root / "frames").glob(f"{video}_*") if path.name.removeprefix(f"{video}_").isdigit())
    folders = sorted(named, key=lambda path: natural_key(path.name))
    if len(folders) != len(rows):
        found, asks = f"{len(folders)} folders {video}_K", f"{len(rows)}, one for each interval of the video"
        raise BenchmarkError(root / "frames", found, asks, "extract the frames again")
    found_frames: list[VideoFrames | ImageFrames] = []
    for folder, row in zip(folders, rows, strict=True):
        images, seconds = numbered_images(folder, r"\D*(\d+)", 1.0), row.number("end") - row.number("start")
        if abs(len(images.paths) - seconds) > 1:
            found, asks = (
                f"{len(images.paths)} images",
                f"{seconds:g} s, one image a second (line {row.line} of the table)",
            )
            raise BenchmarkError(folder, found, asks, "extract the frames again")
        found_frames.append(images)
    return found_frames


def _names(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return tuple(map(str, range(CLASS_COUNT)))
    return read_names(path, "phase_id", CLASS_COUNT)


BENCHMARK = Benchmark("ophnet2024", "OphNet2024", "workflow", "phase", LAYOUT, ("official",), read)
