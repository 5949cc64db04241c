"""The one sample schema, shared by pretraining, simulated clips and benchmarks.

Letters: B batch, T frames, H height, W width; colour is always 3 channels, RGB.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

SCHEMA_VERSION = 1
"""Raised by one whenever a field changes its name, type, shape or meaning."""

Label = int | float | np.ndarray


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip with everything known about it. Absent knowledge is `None` or an empty mapping.

    `check` states the contract in full; producers call it in their tests, readers may rely on it.
    """

    dataset: str  # name of the source the clip comes from
    case: str  # patient or procedure within the dataset: the unit that splits never cut in two
    time: float  # seconds from the start of the video to the first frame
    video_TxHxWx3: np.ndarray  # uint8, RGB
    valid_T: np.ndarray  # bool; False marks a frame repeated to fill a short clip
    fov_HxW: np.ndarray | None = None  # bool; True inside the endoscope's field of view
    labels: Mapping[str, Label] = field(default_factory=dict)  # numbers, or one array per name
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)  # [H, W] or [T, H, W], bool or integer ids
    depth_TxHxW: np.ndarray | None = None  # float, millimetres

    @property
    def origin(self) -> str:
        """Where the clip comes from, as a person reads it: `dataset/case@seconds`."""
        return f"{self.dataset}/{self.case}@{self.time:.3f}"


@dataclass(frozen=True)
class Fault:
    """A file that could not be read, whole or in part."""

    dataset: str  # name of the source
    path: str  # the file or frame folder
    reason: str  # what was found


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one step (this host's rows of the global batch), as they travel to the device."""

    video_BxTxHxWx3: np.ndarray  # uint8, RGB
    valid_BxT: np.ndarray  # bool
    index_B: np.ndarray  # uint32, global sample index: the key of everything random about a sample
    origin: tuple[str, ...]  # `Sample.origin` of each row
    skipped: tuple[Fault, ...] = ()  # failed reads that were replaced by another draw


def check(sample: Sample) -> None:
    """Holds `sample` to the schema.

    Raises:
        ValueError: naming the field, what was found and what is allowed.
    """
    for name in ("dataset", "case"):
        value = getattr(sample, name)
        _require(isinstance(value, str) and value != "", name, repr(value), "a non-empty string")
    _require(
        math.isfinite(sample.time) and sample.time >= 0,
        "time",
        repr(sample.time),
        "finite seconds, at least 0",
    )
    video = sample.video_TxHxWx3
    shaped = isinstance(video, np.ndarray) and video.ndim == 4 and video.shape[-1] == 3 and video.size > 0
    _require(
        shaped and video.dtype == np.uint8,
        "video_TxHxWx3",
        _describe(video),
        "uint8 [T, H, W, 3], none of them 0",
    )
    t, h, w = video.shape[:3]
    _require_array("valid_T", sample.valid_T, "b", ((t,),), "bool")
    if sample.fov_HxW is not None:
        _require_array("fov_HxW", sample.fov_HxW, "b", ((h, w),), "bool")
    if sample.depth_TxHxW is not None:
        _require_array("depth_TxHxW", sample.depth_TxHxW, "f", ((t, h, w),), "float")
    for name, mask in sample.masks.items():
        _require_array(f"masks[{name!r}]", mask, "bui", ((h, w), (t, h, w)), "bool or integer")
    for name, label in sample.labels.items():
        number = isinstance(label, (int, float, np.integer, np.floating, np.ndarray))
        _require(number, f"labels[{name!r}]", repr(label), "an int, a float or a numpy array")


def _require_array(name: str, value: object, kinds: str, shapes: tuple[tuple[int, ...], ...], dtype_words: str) -> None:
    good = isinstance(value, np.ndarray) and value.dtype.kind in kinds and value.shape in shapes
    allowed = f"{dtype_words} " + " or ".join(str(list(shape)) for shape in shapes)
    _require(good, name, _describe(value), allowed)


def _require(good: bool, name: str, found: str, allowed: str) -> None:
    if not good:
        raise ValueError(f"sample field {name}: found {found}, allowed is {allowed}")


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} {value!r}"
