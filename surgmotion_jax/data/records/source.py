"""Cases of a store as videos: any frames at any times, a frame being on display until the next one.

A location reads `records:FOLDER#DATASET/CASE`; `records:FOLDER#DATASET` names a data set, and `records:FOLDER` the only
one. What the ingestion left out of a case is no part of it: its stretches are listed one by one, and no clip leaves its
stretch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.data.location import put_together, taken_apart
from surgmotion_jax.data.media import FrameTable, Limits, Size, UnreadableVideo, VideoInfo, check_times
from surgmotion_jax.data.records.jpeg import decode_scaled
from surgmotion_jax.data.records.manifest import StoredCase, StoredSet
from surgmotion_jax.data.records.record import Record
from surgmotion_jax.data.records.store import open_record, open_store

PREFIX = "records:"


@dataclass(frozen=True)
class Location:
    """What a `records:` path names."""

    folder: str
    dataset: str = ""
    case: str = ""

    def __str__(self) -> str:
        return put_together(PREFIX, self.folder, self.dataset, self.case)


class Stretch(NamedTuple):
    """A part of a case that was kept."""

    path: str
    case: str
    specialty: str
    start_s: float
    end_s: float


def is_records(path: str) -> bool:
    return path.startswith(PREFIX)


def parse_location(path: str) -> Location:
    """Takes a path apart. Raises ValueError where it names no folder."""
    folder, dataset, case = taken_apart(path, PREFIX)
    if not folder:
        raise ValueError(f"{path!r} names no store of records; write {PREFIX}FOLDER, or {PREFIX}FOLDER#DATASET")
    return Location(folder, dataset, case)


def data_sets(path: str) -> list[StoredSet]:
    """The data sets that a path names. Raises ValueError for a store that cannot be read, or a name not in it."""
    location = parse_location(path)
    sets = open_store(location.folder).manifest.sets
    named = [one for one in sets if location.dataset in ("", one.name)]
    if not named:
        names = [one.name for one in sets]
        hint = did_you_mean(location.dataset, names)
        raise ValueError(f"{path}: no data set {location.dataset!r} in this store; it holds {', '.join(names)}.{hint}")
    return named


def stretches(path: str) -> list[Stretch]:
    """All that was kept of the one data set, or case, that a path names, in order of cases and time.

    Raises ValueError where it names several data sets: the sampling rule counts them, so each is a source of its own.
    """
    location, sets = parse_location(path), data_sets(path)
    if len(sets) > 1:
        names = ", ".join(one.name for one in sets)
        raise ValueError(f"{path}: holds the data sets {names}; make a source of each: {path}#{sets[0].name}")
    (named,) = sets
    cases = [case for case in open_store(location.folder).manifest.cases if case.dataset == named.name]
    return [
        Stretch(str(Location(location.folder, named.name, case.case)), case.case, named.specialty, start_s, end_s)
        for case in cases
        if location.case in ("", case.case)
        for start_s, end_s in _stretches_of(case)
    ]


def check_rate(path: str, fps: float) -> None:
    """Raises ValueError where a store was thinned to fewer frames than clips of `fps` frames a second show."""
    location = parse_location(path)
    thinned = open_store(location.folder).manifest.settings.get("fps", 0)
    if 0 < thinned < fps * (1 - 1e-6):
        raise ValueError(
            f"{PREFIX}{location.folder}: holds {thinned:g} frames a second, data config field fps asks for {fps:g}; "
            f"lower it, or ingest again with --fps={fps:g}, or 0 for every frame"
        )


def probe_records(path: str, limits: Limits) -> VideoInfo:
    """What the manifest tells of a case. Raises UnreadableVideo: no such case, or over a cap."""
    case = _case(path, parse_location(path))
    duration_s = float(case.end * case.time_base)
    limits.check_pixels(path, case.width, case.height)
    limits.check_duration(path, duration_s)
    return VideoInfo(path, duration_s, case.fps, case.width, case.height, case.time_base, origin=0)


def read_records(info: VideoInfo, times_s: Sequence[float], size: Size) -> np.ndarray:
    """Frames on display at `times_s`, uint8 [T, H, W, 3]. Raises UnreadableVideo naming the case."""
    check_times(times_s)
    location = parse_location(info.path)
    first_R = [place.first for place in _case(info.path, location).places]
    shown: dict[tuple[int, int], np.ndarray] = {}
    keys = []
    for tick in (info.tick(time_s) for time_s in times_s):
        number = max(0, bisect_right(first_R, tick) - 1)
        record = _record(info.path, location, number)
        frame = max(0, int(np.searchsorted(record.tick_T, tick, side="right")) - 1)
        keys.append((number, frame))
        if keys[-1] not in shown:
            shown[keys[-1]] = _picture(info, record.frames[frame], size)
    return np.stack([shown[key] for key in keys])


def read_all_records(info: VideoInfo, size: Size) -> FrameTable:
    """Every frame that was kept of a case."""
    location = parse_location(info.path)
    records = [_record(info.path, location, number) for number in range(len(_case(info.path, location).places))]
    video = np.stack([_picture(info, frame, size) for record in records for frame in record.frames])
    return FrameTable(info, np.concatenate([record.tick_T for record in records]), video)


def _stretches_of(case: StoredCase) -> Iterator[tuple[float, float]]:
    for start, end in case.stretches:
        yield float(start * case.time_base), float(end * case.time_base)


def _case(path: str, location: Location) -> StoredCase:
    try:
        return open_store(location.folder).case(location.dataset, location.case)
    except ValueError as error:
        raise UnreadableVideo(path, str(error)) from error


def _record(path: str, location: Location, number: int) -> Record:
    try:
        return open_record(location.folder, location.dataset, location.case, number)
    except ValueError as error:
        raise UnreadableVideo(path, str(error)) from error


def _picture(info: VideoInfo, data: bytes, size: Size) -> np.ndarray:
    """A frame at an output size, uint8 [H, W, 3]."""
    try:
        return decode_scaled(data, (info.height, info.width), info.output_size(size))
    except ValueError as error:
        raise UnreadableVideo(info.path, str(error)) from error
