"""Videos in a TFDS folder of ArrayRecords, read through `as_data_source()` without TensorFlow.

A location reads `tfds:FOLDER#SPLIT/CASE`, where FOLDER holds `dataset_info.json`; `tfds:FOLDER#SPLIT` names a split
and `tfds:FOLDER` all of them. Records are `segment.Segment`. What the records hold is known from the folder's
metadata (key `records`: case and first microsecond of each record, by split); a folder without it, written by
another program, is read through once.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.data.location import put_together, taken_apart
from surgmotion_jax.data.media import FrameTable, Limits, Size, UnreadableVideo, VideoInfo, check_times
from surgmotion_jax.data.segment import FIELDS, Segment, parse_segment
from surgmotion_jax.data.still import decoded_still, displayed_size, open_still

PREFIX = "tfds:"
TIME_BASE = Fraction(1, 1_000_000)
"""Seconds per tick: times are stored in microseconds."""

_RECORDS_KEPT = 8
"""Records kept open per process: a clip reads its frames from one or two."""


@dataclass(frozen=True)
class Location:
    """What a `tfds:` path names."""

    folder: str
    split: str = ""
    case: str = ""

    def __str__(self) -> str:
        return put_together(PREFIX, self.folder, self.split, self.case)


def is_tfds(path: str) -> bool:
    return path.startswith(PREFIX)


def parse_location(path: str) -> Location:
    """Takes a path apart. Raises ValueError where it names no folder."""
    folder, split, case = taken_apart(path, PREFIX)
    if not folder:
        raise ValueError(f"{path!r} is no TFDS location; write {PREFIX}FOLDER, or {PREFIX}FOLDER#SPLIT")
    return Location(folder, split, case)


class Archive:
    """One TFDS folder, open. `metadata` is the folder's own; `splits` its splits with records in them.

    Raises:
        ValueError: no such folder, another file format, or features that are not those of `Segment`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        if not (storage.as_path(folder) / "dataset_info.json").exists():
            raise ValueError(
                f"{PREFIX}{folder}: holds no dataset_info.json; name the folder of one version, as in NAME/1.0.0"
            )
        self._builder = _builder(folder)
        info = self._builder.info
        self.metadata: dict[str, Any] = dict(info.metadata or {})
        self.splits = tuple(name for name, split in info.splits.items() if split.num_examples)
        found = set(info.features)
        # TFDS leaves out an empty dictionary: a source without labels has no such feature.
        if wrong := ((set(FIELDS) - {"labels"}) - found) | (found - set(FIELDS)):
            raise ValueError(f"{PREFIX}{folder}: its features are not those of a clip source: {sorted(wrong)}")
        self._sources: dict[str, Any] = {}
        self._cases: dict[str, dict[str, list[tuple[int, int]]]] = {}

    def cases(self, split: str) -> dict[str, list[tuple[int, int]]]:
        """(first microsecond, record) of each record, by case, in order of the records."""
        if split not in self._cases:
            if split not in self.splits:
                raise ValueError(f"{PREFIX}{self.folder}: no split {split!r}; there are {', '.join(self.splits)}")
            listed = self.metadata.get("records", {}).get(split) or self._read_through(split)
            by_case: dict[str, list[tuple[int, int]]] = {}
            for record, (case, first_us) in enumerate(listed):
                by_case.setdefault(case, []).append((first_us, record))
            self._cases[split] = {case: sorted(records) for case, records in by_case.items()}
        return self._cases[split]

    def segment(self, split: str, record: int) -> Segment:
        """One record. Raises ValueError naming it, also where it is damaged."""
        where = f"{PREFIX}{self.folder}#{split}, record {record}"
        try:
            example = self._source(split)[record]
        except Exception as error:  # array_record raises whichever of several kinds, depending on where it is damaged
            raise ValueError(f"{where}: cannot be read: {error}") from error
        return parse_segment(where, example)

    def _source(self, split: str) -> Any:
        if split not in self._sources:
            try:
                self._sources[split] = self._builder.as_data_source(split=split)
            except NotImplementedError as error:
                raise ValueError(f"{PREFIX}{self.folder}: its files are not of format array_record") from error
        return self._sources[split]

    def _read_through(self, split: str) -> list[tuple[str, int]]:
        segments = (self.segment(split, record) for record in range(len(self._source(split))))
        return [(segment.case, int(segment.time_us_T[0])) for segment in segments]


@lru_cache(maxsize=64)
def open_archive(folder: str) -> Archive:
    """The archive of a folder, opened once per process."""
    return Archive(folder)


@lru_cache(maxsize=_RECORDS_KEPT)
def open_segment(folder: str, split: str, record: int) -> Segment:
    """One record, kept open for the frames after this one."""
    return open_archive(folder).segment(split, record)


def locations(path: str) -> list[Location]:
    """The cases that a path names, split by split. Raises ValueError for a folder or split that is not there."""
    asked = parse_location(path)
    archive = open_archive(asked.folder)
    splits = (asked.split,) if asked.split else archive.splits
    found = [Location(asked.folder, split, case) for split in splits for case in archive.cases(split)]
    return [location for location in found if asked.case in ("", location.case)]


def annotation_path(location: Location, kind: str, moment_us: int) -> str:
    """The path of a mask or depth map, for `stored_file`."""
    return f"{location}?{kind}={moment_us}"


def stored_file(path: str) -> bytes:
    """The encoded mask or depth map at an `annotation_path`. Raises ValueError where there is none."""
    whole, _, asked = path.rpartition("?")
    kind, _, moment = asked.partition("=")
    location = parse_location(whole)
    records = open_archive(location.folder).cases(location.split).get(location.case, [])
    start_R = np.array([first_us for first_us, _ in records])
    if kind in ("mask", "depth") and moment.isdecimal() and records:
        record = records[max(0, int(np.searchsorted(start_R, int(moment), side="right")) - 1)][1]
        segment = open_segment(location.folder, location.split, record)
        files = segment.masks if kind == "mask" else segment.depths
        found = np.flatnonzero(segment.moment_us_N == int(moment))
        if len(found) and files:
            return files[int(found[0])]
    raise ValueError(f"{path}: the source holds nothing of that name")


def probe_tfds(path: str, limits: Limits) -> VideoInfo:
    """Opens the first and last record of a case. Raises UnreadableVideo: no such case, damaged, or over a cap."""
    location, records = _records(path)
    first, last = (_segment(path, location, record) for _, record in (records[0], records[-1]))
    with _image(path, first.frames[0], limits) as image:
        width, height = displayed_size(image)
    duration_s = first.end_us / 1e6
    limits.check_duration(path, duration_s)
    # Records hold equally many frames, apart from the last.
    frames = len(first.frames) * (len(records) - 1) + len(last.frames)
    return VideoInfo(path, duration_s, frames / duration_s, width, height, TIME_BASE, origin=0)


def read_tfds(info: VideoInfo, times_s: Sequence[float], size: Size, limits: Limits) -> np.ndarray:
    """Frames on display at `times_s`, uint8 [T, H, W, 3]. Raises UnreadableVideo naming the case."""
    check_times(times_s)
    location, records = _records(info.path)
    start_R = np.array([first_us for first_us, _ in records])
    shown: dict[tuple[int, int], np.ndarray] = {}
    keys = []
    for tick in (info.tick(time_s) for time_s in times_s):
        record = records[max(0, int(np.searchsorted(start_R, tick, side="right")) - 1)][1]
        segment = _segment(info.path, location, record)
        frame = max(0, int(np.searchsorted(segment.time_us_T, tick, side="right")) - 1)
        keys.append((record, frame))
        if keys[-1] not in shown:
            shown[keys[-1]] = _decode(info, segment.frames[frame], size, limits)
    return np.stack([shown[key] for key in keys])


def read_all_tfds(info: VideoInfo, size: Size, limits: Limits) -> FrameTable:
    """Every frame of a case."""
    location, records = _records(info.path)
    segments = [_segment(info.path, location, record) for _, record in records]
    video = np.stack([_decode(info, frame, size, limits) for segment in segments for frame in segment.frames])
    return FrameTable(info, np.concatenate([segment.time_us_T for segment in segments]), video)


def _records(path: str) -> tuple[Location, list[tuple[int, int]]]:
    location = parse_location(path)
    try:
        return location, open_archive(location.folder).cases(location.split)[location.case]
    except KeyError as error:
        raise UnreadableVideo(path, f"no case {location.case!r} in the split {location.split!r}") from error
    except ValueError as error:
        raise UnreadableVideo(path, str(error)) from error


def _segment(path: str, location: Location, record: int) -> Segment:
    try:
        return open_segment(location.folder, location.split, record)
    except ValueError as error:
        raise UnreadableVideo(path, str(error)) from error


def _image(path: str, data: bytes, limits: Limits) -> Image.Image:
    with decoded_still(path, "a frame is neither JPEG nor PNG"):
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    limits.check_pixels(path, *image.size)
    return image


def _decode(info: VideoInfo, data: bytes, size: Size, limits: Limits) -> np.ndarray:
    height, width = info.output_size(size)
    with _image(info.path, data, limits) as image, decoded_still(info.path, "a frame does not decode"):
        upright = open_still(info.path, image, limits, (info.width, info.height), "a case that starts with")
        return np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR))


def _builder(folder: str) -> Any:
    # Imported here: it takes half a second, and most runs read plain video files.
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)
