"""What a clip costs from records and from video files: medians of CPU time, taken in turn.

  python -m tests.corpus.throughput FOLDER VIDEO

VIDEO is played forward and backward for a minute at 25 frames a second, so that its texture is a camera's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from surgmotion_jax.corpus.config import IngestConfig, Thresholds
from surgmotion_jax.corpus.engine import LocalEngine
from surgmotion_jax.corpus.pipeline import ingest
from surgmotion_jax.data import ClipDataset, DataConfig, SourceConfig, probe
from surgmotion_jax.data.decode import frames_in_turn

SECONDS, RATE, FPS, CLIPS = 60, 25, 4.0, 24
ANYTHING = Thresholds(black=0, frozen=0, blurred=0, colours=0, tissue=0, cut=1)
"""Whatever the video shows is kept."""


def pictures(video: str, side: int) -> Iterator[np.ndarray]:
    """A minute of a video at a short side, forward and backward."""
    info = probe(video)
    count = min(120, int(info.duration_s * RATE))
    shown = list(frames_in_turn(info, (n / RATE for n in range(count)), side))
    yield from islice(cycle([*shown, *reversed(shown)]), SECONDS * RATE)


def write(path: Path, frames: Iterator[np.ndarray], every: int) -> None:
    """H.264 with a keyframe in so many frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "g": str(every), "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            height, width = (side // 2 * 2 for side in picture.shape[:2])
            if not number:
                stream.height, stream.width = height, width
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def stored(folder: Path, side: int) -> str:
    """The location of a store of the larger file."""
    out = folder / f"records{side}"
    if not out.exists():
        config = IngestConfig(fps=FPS, size=side, thresholds=ANYTHING)
        ingest({"x": SourceConfig(str(folder / "480"))}, str(out), config, LocalEngine())
    return f"records:{out}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("video")
    asked = parser.parse_args()
    if not asked.folder.exists():
        for side in (480, 256):
            write(asked.folder / str(side) / "video.mp4", pictures(asked.video, side), 250)
    paths = {
        "mp4, 480 rows, keyframe every 250": str(asked.folder / "480"),
        "mp4, 256 rows, keyframe every 250": str(asked.folder / "256"),
        "records, 384 rows": stored(asked.folder, 384),
        "records, 256 rows": stored(asked.folder, 256),
    }
    datasets = {
        name: ClipDataset(DataConfig({"x": SourceConfig(path)}, fps=FPS, holdout=0, stalled_s=0), 0)
        for name, path in paths.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for index in range(CLIPS):
        for name, dataset in datasets.items():
            started = time.process_time()
            dataset.clip(index)
            taken[name].append(1000 * (time.process_time() - started))
    slowest = statistics.median(taken["mp4, 480 rows, keyframe every 250"])
    for name, each in taken.items():
        median = statistics.median(each)
        print(f"{name:<36} {median:7.1f} ms of CPU a clip of 16 x 256 x 256, {slowest / median:5.1f} x")


if __name__ == "__main__":
    main()
