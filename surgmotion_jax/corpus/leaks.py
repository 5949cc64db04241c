"""Fingerprints of videos outside an ingestion, and which of a run's sources show what a benchmark tests.

Letters: M pictures that are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.corpus.fingerprint import Fingerprint, hashes
from surgmotion_jax.corpus.lists import ListedVideo, read_list
from surgmotion_jax.corpus.losses import LEAK, Loss, clock
from surgmotion_jax.corpus.matching import Match, matches
from surgmotion_jax.corpus.observe import glance, lit
from surgmotion_jax.corpus.pipeline import FINGERPRINTS
from surgmotion_jax.corpus.unit import LOOKED_AT
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.decode import frames_in_turn, probe
from surgmotion_jax.data.media import DEFAULT_LIMITS, VideoInfo
from surgmotion_jax.data.records.source import is_records, parse_location
from surgmotion_jax.data.sources import expand

_SIDE = 256
"""Short side at which videos are read, in pixels: more shows nothing else."""


def of_video(dataset: str, case: str, info: VideoInfo, start_s: float, end_s: float) -> Fingerprint:
    """The fingerprint of a stretch of a video within one take. Raises UnreadableVideo."""
    rate = min(LOOKED_AT, info.fps)
    end_s = min(end_s, info.duration_s)
    count = max(1, math.ceil((end_s - start_s) * rate - 1e-6))
    size = min(_SIDE, info.height, info.width)
    pictures = frames_in_turn(info, (start_s + n / rate for n in range(count)), size)
    small_MxSxSx3 = np.stack([glance(picture).small_SxSx3 for picture in pictures])
    return Fingerprint(dataset, case, *hashes(small_MxSxSx3, rate, lit(small_MxSxSx3)), start_s)


def of_case(benchmark: str, case: Case, reader: ClipReader) -> Fingerprint:
    """The fingerprint of a case of a benchmark, from its beginning."""
    info = reader.info(case)
    if isinstance(case.frames, ImageFrames):
        return of_video(benchmark, case.id, info, 0.0, info.duration_s)
    return of_video(benchmark, case.id, info, case.frames.start_s, case.frames.end_s)


def of_benchmark(contents: Contents, splits: Sequence[str]) -> Iterator[ListedVideo]:
    """The videos of some splits of a benchmark, one by one. Raises BenchmarkError or UnreadableVideo."""
    reader = ClipReader(frames=1, dataset=contents.benchmark)
    for split in splits:
        for case in contents.cases.get(split, ()):
            yield ListedVideo(split, of_case(contents.benchmark, case, reader))


def of_sources(sources: Mapping[str, SourceConfig]) -> Iterator[tuple[str, Fingerprint]]:
    """Path and fingerprint of everything that a run may draw clips from."""
    for name, source in sources.items():
        if is_records(source.path):
            yield from _of_store(source.path)
            continue
        for file in expand(name, source):
            info = probe(file.path, DEFAULT_LIMITS, file.folder_fps)
            for start_s, end_s in info.borders_s:
                start, end = max(file.start_s, start_s), min(file.end_s, end_s)
                if start < end:
                    yield file.path, of_video(name, file.case, info.within(start, end), start, end)


def _of_store(path: str) -> Iterator[tuple[str, Fingerprint]]:
    """What an ingestion wrote down of what it kept."""
    location = parse_location(path)
    for video in read_list(Path(location.folder) / FINGERPRINTS):
        seconds = video.seconds
        if location.dataset in ("", seconds.dataset) and location.case in ("", seconds.case):
            yield path, seconds


def leaks(found: Sequence[tuple[str, Fingerprint]], listed: Sequence[ListedVideo]) -> list[Loss]:
    """The stretches that show what is listed, by source and time."""
    prints = [*(video.seconds for video in listed), *(seconds for _, seconds in found)]
    shared = [match for match in matches(prints) if match.second < len(listed) <= match.first]
    return sorted(
        (_leak(match, found[match.first - len(listed)], listed[match.second]) for match in shared),
        key=lambda loss: (loss.dataset, loss.case, loss.start_s),
    )


def _leak(match: Match, found: tuple[str, Fingerprint], video: ListedVideo) -> Loss:
    path, seconds = found
    times = seconds.first_s + match.start, seconds.first_s + match.stop
    theirs = (clock(video.seconds.first_s + second + match.ahead) for second in (match.start, match.stop))
    return Loss(seconds.dataset, seconds.case, path, *times, LEAK, f"is {video.title} from {' to '.join(theirs)}")
