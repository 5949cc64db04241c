"""Turns a source (file, folder, glob, CSV, `tfds:` or `records:` location) into the videos it names. Opens none.

A CSV has a header line and the columns `path` and, as wanted, `case`, `specialty`, `start`, `end` (seconds).
Relative paths start at the CSV's folder. One video may have several rows, as segments that do not overlap.
"""

import csv
import glob
import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import TypeVar

from surgmotion_jax import storage
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.images import IMAGE_SUFFIXES, image_names, natural_key
from surgmotion_jax.data.records.source import Location, data_sets, is_records, parse_location, stretches
from surgmotion_jax.data.sample import Fault
from surgmotion_jax.data.tfds_source import is_tfds, locations

T = TypeVar("T")

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf",
    ".flv", ".3gp", ".ogv", ".mxf", ".dv",
)  # fmt: skip
"""What surgical recorders, cameras and archives write; a file is read where FFmpeg reads it."""

_LOOKED_FOR = f"{', '.join(VIDEO_SUFFIXES)} files, and folders of {', '.join(IMAGE_SUFFIXES)} images"
_NAMED = 3
"""Of files that are passed over, so many are named."""

_COLUMNS = ("path", "case", "specialty", "start", "end")


@dataclass(frozen=True)
class VideoFile:
    """One video, or one segment of it, before anybody opened it."""

    dataset: str  # name of the source
    path: str  # video file or frame folder
    case: str  # patient or procedure; by default the file's stem, with its folders where stems repeat
    specialty: str  # specialty of the whole dataset
    folder_fps: float = 1.0  # frames per second, if it is a frame folder
    start_s: float = 0.0  # where the usable part begins
    end_s: float = math.inf  # where it ends


def expand(dataset: str, source: SourceConfig) -> list[VideoFile]:
    """The videos of a source, in natural order of their paths (of their rows, for a CSV).

    Raises:
        ValueError: nothing found (the message lists what was looked for), or a bad line of a CSV.
    """
    if is_tfds(source.path):
        return _from_tfds(dataset, source)
    if is_records(source.path):
        return _from_records(dataset, source)
    path = os.path.expanduser(source.path)
    if path.lower().endswith(".csv") and os.path.isfile(path):
        return _from_csv(dataset, source, path)
    paths, root = _find(path)
    if not paths:
        state = "" if os.path.exists(path) or glob.has_magic(path) else "it does not exist; "
        raise ValueError(
            f"source {dataset!r}: no readable video at {source.path}: {state}looked for {_LOOKED_FOR}, and for a CSV"
        )
    cases = _case_names(paths, root)
    return [VideoFile(dataset, p, cases[p], source.specialty, source.folder_fps) for p in paths]


def sources_at(path: str) -> dict[str, SourceConfig]:
    """What a path means that is named alone: one source, or a source for each data set of a store of records.

    Raises ValueError for a store that cannot be read.
    """
    if not is_records(path):
        return {"data": SourceConfig(path)}
    location = parse_location(path)
    return {
        one.name: SourceConfig(str(Location(location.folder, one.name, location.case)), one.specialty)
        for one in data_sets(path)
    }


def _from_tfds(dataset: str, source: SourceConfig) -> list[VideoFile]:
    """The cases of a TFDS folder, or of one of its splits. A case in several splits is one case."""
    found = _found(dataset, source, locations)
    return [VideoFile(dataset, str(location), location.case, source.specialty) for location in found]


def _from_records(dataset: str, source: SourceConfig) -> list[VideoFile]:
    """What a store of records kept of its cases, stretch by stretch. The store knows their specialty."""
    found = _found(dataset, source, stretches)
    return [
        VideoFile(dataset, one.path, one.case, one.specialty, start_s=one.start_s, end_s=one.end_s) for one in found
    ]


def _found(dataset: str, source: SourceConfig, look: Callable[[str], list[T]]) -> list[T]:
    """What a path names. Raises ValueError with the source's name, also where it names nothing."""
    try:
        found = look(source.path)
    except ValueError as error:
        raise ValueError(f"source {dataset!r}: {error}") from error
    if not found:
        raise ValueError(f"source {dataset!r}: no readable video at {source.path}: it names no case")
    return found


def _find(path: str) -> tuple[list[str], str]:
    """Videos at a path or glob, and the folder that case names are relative to."""
    if glob.has_magic(path) and not os.path.exists(path):
        root = os.path.dirname(path[: min(path.index(c) for c in "*?[" if c in path)]) or "."
        matches = sorted(glob.glob(path, recursive=True), key=natural_key)
        return list(dict.fromkeys(found for match in matches for found in _walk(match))), root
    if os.path.isdir(path):
        return list(_walk(path)), path
    return list(_walk(path)), os.path.dirname(path) or "."


def _walk(path: str) -> Iterator[str]:
    """Videos at or below `path`. Links are followed, each folder once; names with a leading dot are not seen."""
    if os.path.isfile(path):
        if path.lower().endswith(VIDEO_SUFFIXES):
            yield path
        return
    for folder, names, subfolders in _folders(path):
        read, of_suffixes = _read(names, subfolders)
        if of_suffixes == VIDEO_SUFFIXES:
            yield from (os.path.join(folder, name) for name in read)
        elif read:
            yield folder


def _read(names: list[str], subfolders: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Which files of a folder are read, and as what.

    Beside video files, images are thumbnails and not frames. An image alone in a folder with subfolders is a picture of
    them.
    """
    videos = [name for name in names if name.lower().endswith(VIDEO_SUFFIXES)]
    if videos:
        return videos, VIDEO_SUFFIXES
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    return ([] if len(images) == 1 and subfolders else images), IMAGE_SUFFIXES


def _folders(path: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders at and below `path`, each with the names of its visible files in natural order, and its subfolders."""
    seen = set()
    for folder, subfolders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted((s for s in subfolders if not s.startswith(".")), key=natural_key)
        yield folder, sorted((name for name in names if not name.startswith(".")), key=natural_key), subfolders


def passed_over(dataset: str, source: SourceConfig) -> list[Fault]:
    """Files of a folder searched for videos that are none, counted by suffix; thumbnails are among them."""
    path = os.path.expanduser(source.path)
    if is_tfds(path) or is_records(path) or not os.path.isdir(path):
        return []
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for folder, names, subfolders in _folders(path):
        read = set(_read(names, subfolders)[0])
        for name in names:
            if name not in read:
                suffix = os.path.splitext(name)[1].lower() or "no suffix"
                by_suffix[suffix].append(os.path.relpath(os.path.join(folder, name), path))
    return [Fault(dataset, path, _counted(suffix, names)) for suffix, names in by_suffix.items()]


def _counted(suffix: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} x {suffix}: {', '.join(names[:_NAMED])}{more}"


def _case_names(paths: list[str], root: str) -> dict[str, str]:
    """The shortest of stem, relative path without suffix, relative path, that no other video has."""
    names = {path: _candidates(path, root) for path in dict.fromkeys(paths)}
    counts = Counter(name for candidates in names.values() for name in dict.fromkeys(candidates))
    return {path: next((name for name in candidates if counts[name] == 1), path) for path, candidates in names.items()}


def _candidates(path: str, root: str) -> tuple[str, str, str]:
    relative = PurePath(os.path.relpath(path, root))
    if relative == PurePath("."):
        relative = PurePath(os.path.basename(os.path.abspath(path)))
    is_file = relative.suffix.lower() in VIDEO_SUFFIXES
    bare = relative.with_suffix("") if is_file else relative
    return bare.name, bare.as_posix(), relative.as_posix()


def _from_csv(dataset: str, source: SourceConfig, table: str) -> list[VideoFile]:
    folder = os.path.dirname(table) or "."
    reader = csv.DictReader(io.StringIO(storage.read_utf8(table), newline=""))
    columns = [name.strip() for name in reader.fieldnames or ()]
    unknown = [name for name in columns if name not in _COLUMNS]
    if "path" not in columns or unknown:
        raise ValueError(
            f"{table}, line 1: found columns {columns}, allowed are path and any of {', '.join(_COLUMNS[1:])}"
        )
    reader.fieldnames = columns
    rows = [_read_row(f"{table}, line {reader.line_num}", row, folder) for row in reader]
    if not rows:
        raise ValueError(f"{table}: no readable video: the table has a header and no row")
    named = _case_names([row["path"] for row in rows], folder)
    specialty = _one_specialty(rows) or source.specialty
    files = [
        VideoFile(
            dataset, row["path"], row["case"] or named[row["path"]], specialty, source.folder_fps,
            *_segment(row),
        )
        for row in rows
    ]  # fmt: skip
    _check_overlaps(files, [row["where"] for row in rows])
    return files


def _read_row(where: str, row: dict[str, str | None], folder: str) -> dict[str, str]:
    """One line as stripped strings, its path resolved, with `where` for error messages."""
    if None in row or None in row.values():
        raise ValueError(f"{where}: found another number of fields than the header has; quote paths with commas")
    found = {name: (row.get(name) or "").strip() for name in _COLUMNS}
    if not found["path"]:
        raise ValueError(f"{where}: found an empty path, allowed is a video file or a frame folder")
    named = os.path.expanduser(found["path"])
    path = os.path.normpath(os.path.join(folder, named))
    if not os.path.isabs(named) and os.path.relpath(path, folder).split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"{where}: {found['path']!r} leads out of the folder of the table; write the whole path, from the root, if "
            "that is meant"
        )
    if not os.path.exists(path):
        raise ValueError(f"{where}: {path} does not exist; relative paths start at {folder}")
    if os.path.isdir(path) and not image_names(path):
        raise ValueError(f"{where}: {path} is a folder without images, allowed are a video file or a frame folder")
    return {**found, "path": path, "where": where}


def _segment(row: dict[str, str]) -> tuple[float, float]:
    try:
        start, end = float(row["start"] or 0), float(row["end"] or math.inf)
    except ValueError:
        start, end = math.nan, math.nan
    if not (0 <= start < end and math.isfinite(start)):
        raise ValueError(
            f"{row['where']}: found start {row['start']!r} and end {row['end']!r}, allowed are seconds with"
            " 0 <= start < end; an empty field means the start or end of the video"
        )
    return start, end


def _one_specialty(rows: list[dict[str, str]]) -> str:
    """The specialty column's only value. The sampling rule counts datasets by specialty: one each."""
    first = rows[0]["specialty"]
    for row in rows:
        if row["specialty"] != first:
            raise ValueError(
                f"{row['where']}: found specialty {row['specialty']!r} after {first!r}; a dataset has one"
                " specialty, so make one source for each"
            )
    return first


def _check_overlaps(files: list[VideoFile], where: list[str]) -> None:
    """Refuses to list a stretch of video twice: it could be trained on and held out at once."""
    order = sorted(range(len(files)), key=lambda i: (files[i].path, files[i].start_s))
    for before, after in pairwise(order):
        same = files[before].path == files[after].path
        if same and files[after].start_s < files[before].end_s:
            raise ValueError(
                f"{where[after]}: {files[after].path} from {files[after].start_s:g} s overlaps {where[before]},"
                f" which runs to {files[before].end_s:g} s"
            )
