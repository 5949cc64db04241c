"""What a folder of features holds and how it was made, so that a repeated command does only what is left.

`index.json` has the settings, the same for all files of the folder, and an entry for each finished video. It is
rewritten after each video, whole; a video whose entry is missing is extracted again, to the same bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.data.images import image_names
from surgmotion_jax.data.sources import VideoFile
from surgmotion_jax.differences import differences

INDEX_FILE = "index.json"
SCHEMA_VERSION = 1


class OtherSettings(ValueError):
    """The folder holds features made with other settings, or of another video of the same name."""


class FeatureIndex:
    """The index of a folder; opened with the settings that a command wants.

    Raises OtherSettings, listing each field that differs, where the folder was made with others; ValueError where
    the index is damaged.
    """

    def __init__(self, folder: storage.PathLike, settings: Mapping[str, Any]) -> None:
        self._folder, self._path = storage.as_path(folder), storage.as_path(folder) / INDEX_FILE
        self._settings = dict(settings)
        self._videos: dict[str, Any] = {}
        if self._path.exists():
            self._videos = self._read()

    def finished(self, name: str, file: VideoFile, extra: str = "") -> bool:
        """Whether a video's files are there, whole; `extra` is one more that is wanted.

        Raises OtherSettings where the name stands for another video.
        """
        entry = self._videos.get(name)
        if entry is None:
            return False
        changed = differing(entry["source"], source_of(file), f"videos.{name}.source")
        if changed:
            raise _refusal(self._path, changed, "the video has changed, or another one has its name")
        wanted = {path: size for path, size in entry["files"].items() if path != extra}
        if extra:
            wanted[extra] = entry["files"].get(extra, -1)
        return all(_size(self._folder / path) == size for path, size in wanted.items())

    def add(self, name: str, file: VideoFile, paths: Sequence[str], windows: int) -> None:
        """Enters a finished video with the files written for it, named from the folder."""
        sizes = {path: _size(self._folder / path) for path in paths}
        self._videos[name] = {"source": source_of(file), "windows": windows, "files": sizes}
        videos = {name: self._videos[name] for name in sorted(self._videos)}
        whole = {"schema_version": SCHEMA_VERSION, "settings": self._settings, "videos": videos}
        storage.write_text_atomic(self._path, json.dumps(whole, indent=1, allow_nan=False) + "\n")

    def _read(self) -> dict[str, Any]:
        found = storage.read_json(self._path)
        known = isinstance(found, dict) and found.keys() == {"schema_version", "settings", "videos"}
        if not known or found["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"{self._path}: not an index of features of schema {SCHEMA_VERSION}; choose another folder with --out"
            )
        changed = differing(found["settings"], self._settings, "settings")
        if changed:
            raise _refusal(self._path, changed, "features of one folder are to be comparable")
        return dict(found["videos"])


def _refusal(path: os.PathLike[str], changed: Sequence[str], why: str) -> OtherSettings:
    listed = "\n  ".join(changed[:LISTED])
    return OtherSettings(
        f"{path}: {why}:\n  {listed}\nRepeat the earlier settings, or choose another folder with --out."
    )


def differing(saved: Any, wanted: Any, field: str) -> list[str]:
    """Differences between two JSON values, a sentence a field with its dotted path; [] if they are equal."""
    pairs = differences(saved, wanted, field, absent=None)
    return [f"{path}: {old!r} in the folder, {new!r} requested" for path, old, new in pairs]


def source_of(file: VideoFile) -> dict[str, Any]:
    """What tells one source video from another without its whole path: name, bytes, and the stretch used."""
    path = file.path
    names = [os.path.join(path, name) for name in image_names(path)] if os.path.isdir(path) else [path]
    size = sum(os.path.getsize(name) for name in names if os.path.exists(name))
    end = None if file.end_s == float("inf") else file.end_s
    name = os.path.basename(os.path.abspath(path))
    fps = {"folder_fps": file.folder_fps} if os.path.isdir(path) else {}
    return {"name": name, "bytes": size, "start_s": file.start_s, "end_s": end, **fps}


def file_names(files: Sequence[VideoFile]) -> dict[str, VideoFile]:
    """A name for the files of each video: its case; where several videos share one, with the video's own name; where
    several stretches of a video do, with their times too. A video listed twice counts once.

    Raises ValueError for a case that would leave the folder, and where two videos cannot be told apart by name.
    """
    unique: dict[tuple[str, float, float], VideoFile] = {}
    for file in files:
        unique.setdefault((os.path.realpath(file.path), file.start_s, file.end_s), file)
    ordered = list(unique.values())
    cases = Counter(file.case for file in ordered)
    videos = Counter((file.case, file.path) for file in ordered)
    named: dict[str, VideoFile] = {}
    for file in ordered:
        name = _checked(file)
        if cases[file.case] > 1:
            name += f"-{PurePath(os.path.abspath(file.path)).stem}"
        if videos[file.case, file.path] > 1:
            name += f"-{file.start_s:g}s-{file.end_s:g}s"
        if name in named:
            raise ValueError(
                f"{file.path} and {named[name].path} would both be written as {name!r}; name their cases in a CSV "
                "(columns path,case)"
            )
        named[name] = file
    return named


def _checked(file: VideoFile) -> str:
    parts = file.case.split("/")
    if not re.fullmatch(r"[^\x00-\x1f\\]+", file.case) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{file.path}: case {file.case!r} names the output file; allowed are names, and folders below the output "
            "folder: no '..', no leading '/', no backslash or control character"
        )
    return file.case


def _size(path: Any) -> int:
    return int(path.stat().length) if path.exists() else -2
