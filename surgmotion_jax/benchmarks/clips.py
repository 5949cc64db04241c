"""Cases that are one labelled clip: the label belongs to the whole, so it is scored at its last frame."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.decode import probe
from surgmotion_jax.data.media import UnreadableVideo


def clip_case(
    name: str, video: VideoFrames, label: str, value: int, annotation: Path | None = None, group: str | None = None
) -> Case:
    """A case with one label, at the time of the last frame of the clip.

    Raises BenchmarkError for a video that cannot be opened, or an interval beyond its end.
    """
    times_N = np.array([last_frame_time(video)])
    labels = {label: np.array([value], np.int64)}
    return Case(name, group or name, video, times_N, labels, annotation=annotation)


def last_frame_time(video: VideoFrames) -> float:
    """Seconds from the start of the interval to its last frame."""
    try:
        info = probe(str(video.path))
    except UnreadableVideo as error:
        raise BenchmarkError(video.path, error.reason, "a whole video", "get or cut the file again") from None
    if video.start_s >= info.duration_s or (math.isfinite(video.end_s) and video.end_s > info.duration_s + 1):
        found = f"{info.duration_s:g} s of video"
        asks = f"frames from {video.start_s:g} to {video.end_s:g} s"
        raise BenchmarkError(video.path, found, asks, "correct the interval, or get the whole video")
    end_s = min(video.end_s, info.duration_s)
    frames = max(1, round((end_s - video.start_s) * info.fps))
    return (frames - 1) / info.fps
