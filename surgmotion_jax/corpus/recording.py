"""The recordings that sources name: each file once, with the segments that are meant, and a name by its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.images import image_names
from surgmotion_jax.data.media import Limits
from surgmotion_jax.data.sources import VideoFile, expand


@dataclass(frozen=True)
class Recording:
    """One file or frame folder to ingest."""

    dataset: str
    case: str
    specialty: str
    path: str
    folder_fps: float
    segments: tuple[tuple[float, float], ...]  # seconds from and to which it may be used
    limits: Limits

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.case}"


def recordings(sources: Mapping[str, SourceConfig], limits: Limits) -> list[Recording]:
    """All that the sources name, in their order. Raises ValueError where one names nothing."""
    files = [file for name, source in sources.items() for file in expand(name, source)]
    segments: dict[tuple[str, str, str], list[VideoFile]] = {}
    for file in files:
        segments.setdefault((file.dataset, file.case, file.path), []).append(file)
    return [
        Recording(
            dataset, case, of[0].specialty, path, of[0].folder_fps, tuple((f.start_s, f.end_s) for f in of), limits
        )
        for (dataset, case, path), of in segments.items()
    ]


def content_of(path: str) -> str:
    """SHA-256 of a recording: of a file's bytes; of a folder's images, their names and bytes; else of its location."""
    if os.path.isdir(path):
        told = (f"{name}\0{storage.sha256_of(Path(path) / name)}\n" for name in image_names(path))
        return _digest(told)
    return storage.sha256_of(path) if os.path.isfile(path) else _digest([path])


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
