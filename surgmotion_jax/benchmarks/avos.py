"""AVOS: actions in open surgery from the web (Goodman et al., arXiv 2112.07219), split by source video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, VideoFrames
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.frames import video_file
from surgmotion_jax.benchmarks.splits import by_split, draw_order, split_table
from surgmotion_jax.benchmarks.tables import Row, read_names, read_table

NO_ACTION = "Others"
SEED = 42
SHARES = {"val": 0.15, "test": 0.15}
LAYOUT = """ROOT/
  segments.csv        `video_id,start,end,action`: seconds in the video, name of the action
  videos/VIDEO.mp4
  classes.csv         `action_id,name`; without it classes are the actions of training and validation videos, sorted
A case is a segment, numbered within its video; segments of `Others` are not actions and not scored.
15 % of the source videos validate and 15 % test, drawn by a fixed seed whatever they show, never segments of one video
in two splits."""


def read(root: Path, protocol: str) -> Contents:
    """Every segment with an action. Neither classes nor splits depend on the labels of test segments."""
    table = root / "segments.csv"
    rows = read_table(table, ("video_id", "start", "end", "action"))
    split_of = video_splits([row.text("video_id") for row in rows], table)
    classes = _classes(root / "classes.csv", rows, split_of)
    place_in: dict[str, int] = {}
    cases = []
    for row in rows:
        place = place_in[row.text("video_id")] = place_in.get(row.text("video_id"), -1) + 1
        if row.text("action") != NO_ACTION:
            cases.append(_case(root, row, place, classes))
    return Contents(BENCHMARK.name, protocol, {"action": classes}, by_split(cases, split_of))


def video_splits(videos: list[str], table: Path) -> dict[str, str]:
    """Split of each source video. Raises BenchmarkError where there are too few to make three splits."""
    order = draw_order(videos, SEED)
    if len(order) < 3:
        found = f"segments of {len(order)} videos"
        raise BenchmarkError(table, found, "at least 3 videos, one for each split", "add segments of other videos")
    val, test = (max(1, round(share * len(order))) for share in SHARES.values())
    return split_table(val=order[:val], test=order[val : val + test], train=order[val + test :])


def _classes(listed: Path, rows: Sequence[Row], split_of: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the file, or those of the segments that heads are trained and chosen on."""
    if listed.exists():
        return read_names(listed, "action_id")
    seen = {row.text("action") for row in rows if split_of[row.text("video_id")] != "test"}
    return tuple(sorted(seen - {NO_ACTION}))


def _case(root: Path, row: Row, place: int, classes: tuple[str, ...]) -> Case:
    video, start, end = row.name("video_id"), row.number("start", low=0), row.number("end")
    if end <= start:
        raise row.error(f"end {row.text('end')}", f"more than start {row.text('start')}", "correct the segment")
    if row.text("action") not in classes:
        asks = f"one of {', '.join(classes)}, those of classes.csv or else of training and validation videos"
        fix = f"correct the spelling, list every action in classes.csv, or call the segment {NO_ACTION}"
        raise row.error(f"action {row.text('action')!r}", asks, fix)
    frames = VideoFrames(video_file(root / "videos" / f"{video}.mp4").path, start, end)
    action = classes.index(row.text("action"))
    return clip_case(f"{video}_{place}", frames, "action", action, row.file, video)


BENCHMARK = Benchmark("avos", "AVOS", "action", "action", LAYOUT, ("by_video",), read)
