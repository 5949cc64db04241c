"""What the data pipeline is told: which videos, which clips, how much machine."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Short = Literal["pad", "skip"]
HoldoutBy = Literal["time", "case"]


@dataclass(frozen=True)
class SourceConfig:
    """One dataset: where its videos are, and the specialty it counts towards in the sampling rule."""

    path: str  # video file, folder (searched), frame folder, glob, CSV of videos, tfds:FOLDER or records:FOLDER
    specialty: str = "general"  # datasets of one specialty share that specialty's part of the draws
    folder_fps: float = 1.0  # frames per second at which frame folders were extracted
    licence: str = ""  # what the data set may be used for, for the report of an ingestion
    terms: str = ""  # where its terms stand, or with whom they were agreed

    def __post_init__(self) -> None:
        _require(bool(self.path), "path", self.path, "a file, folder, glob, CSV, tfds:FOLDER or records:FOLDER")
        _require(bool(self.specialty), "specialty", self.specialty, "a non-empty name")
        _require_positive("folder_fps", self.folder_fps)


@dataclass(frozen=True)
class DataConfig:
    """The clips to draw. Every host of a run must hold the same values (machine fields excepted)."""

    sources: Mapping[str, SourceConfig] = field(default_factory=dict)  # dataset name -> where it is

    frames: int = 16  # frames per clip
    fps: float = 4.0  # frames per second within a clip
    canvas: tuple[int, int] = (256, 256)  # height, width of the window cut on the host, in pixels
    short: Short = "pad"  # a video shorter than a clip: repeat its last frame, or leave the video out

    holdout: float = 0.1  # fraction kept aside from training; 0 keeps nothing
    holdout_by: HoldoutBy = "time"  # keep aside the end of every video, or whole cases
    bad_budget: float = 0.05  # fraction of files that may be unreadable; above 0 it allows at least one file

    memory_gb: float = 0.0  # decoded videos kept in memory while they fit, in GB per host; 0 keeps none
    workers: int = 0  # decoding processes; 0 decodes in threads of the training process
    threads: int = 2  # decoding threads per process, and threads that open files at the start
    prefetch: int = 2  # batches decoded ahead, per process; never fewer than `threads`
    stalled_s: float = 300.0  # seconds without an answer after which a file counts as unreadable; 0 waits for ever

    max_pixels: int = 36_000_000  # largest frame opened, width x height: a cap against decompression bombs
    max_duration_s: float = 86_400.0  # longest video opened, in seconds
    max_streams: int = 32  # most streams a video container may hold
    recheck: bool = False  # look for damage that decoders overlook, as all that reads a file once does (docs/faults.md)

    def __post_init__(self) -> None:
        _require(bool(self.sources), "sources", dict(self.sources), "at least one named source")
        for name, source in self.sources.items():
            _require(isinstance(source, SourceConfig), f"sources[{name!r}]", source, "a SourceConfig")
            _require(bool(name) and "/" not in name, "sources", name, "names that are not empty and hold no '/'")
        for name, least in (("frames", 1), ("workers", 0), ("threads", 1), ("prefetch", 1)):
            _require_whole(name, getattr(self, name), least)
        for name, least in (("max_pixels", 1), ("max_streams", 1)):
            _require_whole(name, getattr(self, name), least)
        good = len(self.canvas) == 2 and all(isinstance(side, int) and side >= 1 for side in self.canvas)
        _require(good, "canvas", self.canvas, "(height, width), whole numbers of at least 1")
        _require_positive("fps", self.fps)
        _require_positive("max_duration_s", self.max_duration_s)
        _require(self.short in get_args(Short), "short", self.short, " | ".join(get_args(Short)))
        _require(
            self.holdout_by in get_args(HoldoutBy),
            "holdout_by",
            self.holdout_by,
            " | ".join(get_args(HoldoutBy)),
        )
        _require(0 <= self.holdout < 1, "holdout", self.holdout, "a fraction in [0, 1)")
        _require(0 <= self.bad_budget < 1, "bad_budget", self.bad_budget, "a fraction in [0, 1)")
        good = math.isfinite(self.stalled_s) and self.stalled_s >= 0
        _require(good, "stalled_s", self.stalled_s, "finite seconds, at least 0")
        good = math.isfinite(self.memory_gb) and self.memory_gb >= 0
        _require(good, "memory_gb", self.memory_gb, "finite gigabytes, at least 0")

    @property
    def span_s(self) -> float:
        """Seconds from the first frame of a clip to its last."""
        return (self.frames - 1) / self.fps

    def bad_allowed(self, files: int) -> int:
        """How many of `files` may be unreadable: the floor of the fraction, but one unless the budget is 0."""
        return max(1, math.floor(self.bad_budget * files)) if self.bad_budget > 0 else 0


def _require_positive(name: str, value: float) -> None:
    _require(math.isfinite(value) and value > 0, name, value, "a finite number above 0")


def _require_whole(name: str, value: object, least: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(good, name, value, f"a whole number of at least {least}")


def _require(good: bool, name: str, found: object, allowed: str) -> None:
    if not good:
        raise ValueError(f"data config field {name}: found {found!r}, allowed is {allowed}")
