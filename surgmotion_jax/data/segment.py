"""The record of a TFDS source: a stretch of one case as encoded frames, with what is known about its moments.

A case is cut into records of a few dozen frames, in order. Everything is an integer, a string or bytes, since the
records are tf.Examples, which keep floats in 32 bits only: times are whole microseconds, depth is an encoded image.
Letters: T frames of the record, N scored moments in it, K label columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surgmotion_jax.data.sample import SCHEMA_VERSION

FIELDS = (
    "schema_version", "dataset", "case", "group", "end_us", "time_us", "frames",
    "moment_us", "labels", "masks", "depths",
)  # fmt: skip
"""Features that a source must have, and all that it may have."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Frames that follow one another in a case. Frame t is on display from `time_us_T[t]` until the next frame."""

    dataset: str  # name of the data set
    case: str  # unique within a split
    group: str  # what a split never cuts in two
    end_us: int  # microseconds at which the last frame of the whole case ends
    time_us_T: np.ndarray  # int64, ascending, from the start of the case
    frames: tuple[bytes, ...]  # T images as JPEG or PNG files
    moment_us_N: np.ndarray  # int64: moments before the next record's first frame
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)  # [N] or [N,K], int64 or float32
    masks: tuple[bytes, ...] = ()  # N images as PNG files, or none
    depths: tuple[bytes, ...] = ()  # N single-channel float TIFF files in millimetres, NaN where unknown, or none

    def example(self) -> dict[str, Any]:
        """As TFDS takes it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "case": self.case,
            "group": self.group,
            "end_us": self.end_us,
            "time_us": self.time_us_T,
            "frames": _objects(self.frames),
            "moment_us": self.moment_us_N,
            "labels": dict(self.labels),
            "masks": _objects(self.masks),
            "depths": _objects(self.depths),
        }


def parse_segment(where: str, example: Mapping[str, Any]) -> Segment:
    """The record that `example`, as TFDS returns it, holds.

    Raises:
        ValueError: naming `where` and the field: another schema version, or lengths that do not belong together.
    """
    version = int(example["schema_version"])
    if version != SCHEMA_VERSION:
        raise ValueError(f"{where}: schema_version is {version}, this version reads {SCHEMA_VERSION}; build it again")
    segment = Segment(
        dataset=_text(example["dataset"]),
        case=_text(example["case"]),
        group=_text(example["group"]),
        end_us=int(example["end_us"]),
        time_us_T=np.asarray(example["time_us"], np.int64),
        frames=tuple(example["frames"]),
        moment_us_N=np.asarray(example["moment_us"], np.int64),
        labels={name: np.asarray(value) for name, value in example["labels"].items()} if "labels" in example else {},
        masks=tuple(example["masks"]),
        depths=tuple(example["depths"]),
    )
    frames, moments = len(segment.time_us_T), len(segment.moment_us_N)
    if len(segment.frames) != frames or not frames or (np.diff(segment.time_us_T) <= 0).any():
        raise ValueError(f"{where}: {len(segment.frames)} frames for {frames} times; each needs its own, ascending")
    entries = {name: len(label) for name, label in segment.labels.items()}
    entries |= {name: len(files) for name, files in (("masks", segment.masks), ("depths", segment.depths)) if files}
    for name, count in entries.items():
        if count != moments:
            raise ValueError(f"{where}: field {name} has {count} entries for {moments} moments")
    return segment


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _objects(values: tuple[bytes, ...]) -> np.ndarray:
    """An object array: as a byte-string array, numpy would drop trailing zero bytes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
