"""The held-out clips kept for the eye: pixels, scores, masks and features, checked against each other.

Letters: B clips, T frames, H, W pixels, t tubelets (T / tubelet), gh, gw rows and columns of the patch
grid, D features.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from etils import epath

from surgmotion_jax import storage

MOST_CLIPS = 4


@dataclass(frozen=True)
class Snapshot:
    """The first `MOST_CLIPS` clips of `snapshot.npz`; a picture whose array is absent is None.

    `notes` says in plain words which arrays were left out and why. `clips_kept` counts those in the file.
    """

    video_BxTxHxWx3: np.ndarray
    patch: int
    tubelet: int
    fps: float
    step: int
    origin: tuple[str, ...]
    clips_kept: int
    saliency_Bxghxgw: np.ndarray | None
    fov_Bxghxgw: np.ndarray | None
    top_Bxghxgw: np.ndarray | None
    target_Bxtxghxgw: np.ndarray | None
    features_BxtxghxgwxD: np.ndarray | None
    error_Bxtxghxgw: np.ndarray | None
    notes: tuple[str, ...] = ()


_OPTIONAL = {"error_Bxtxghxgw"}
_FLAGS = {"fov_Bxghxgw", "top_Bxghxgw", "target_Bxtxghxgw"}
_FIELDS = (
    "saliency_Bxghxgw",
    "fov_Bxghxgw",
    "top_Bxghxgw",
    "target_Bxtxghxgw",
    "features_BxtxghxgwxD",
    "error_Bxtxghxgw",
)


def read_snapshot(path: epath.Path) -> Snapshot:
    """The clips of an `.npz` written during training.

    Raises:
      ValueError: the file cannot be read, or its video, patch or tubelet are absent or do not fit together.
        Any other array that does not fit is left out, with a note.
    """
    arrays = _read_arrays(path)
    video, patch, tubelet = _video(path, arrays)
    grid = _grid(video, patch, tubelet)
    fitted, notes = {}, []
    for field in _FIELDS:
        fitted[field], note = _fit(field, arrays.get(field), grid)
        notes += [note] if note else []
    kept = video.shape[0]
    names = np.atleast_1d(arrays.get("origin", np.array([], str))).astype(str)
    return Snapshot(
        video_BxTxHxWx3=video[:MOST_CLIPS],
        patch=patch,
        tubelet=tubelet,
        fps=_number(arrays, "fps", 0.0),
        step=int(_number(arrays, "step", -1)),
        origin=tuple(str(name) for name in names[:MOST_CLIPS]),
        clips_kept=kept,
        notes=tuple(notes),
        **fitted,
    )


def _read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
    # Pickled objects are refused: a report must never run what it reads. What the reader says about a broken
    # file is left out, because it advises to allow them.
    content = io.BytesIO(path.read_bytes())
    try:
        if zipfile.is_zipfile(content):
            storage.check_inflation(content)
            with np.load(content, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        raise ValueError("no archive")
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise ValueError("it is not a whole .npz file of plain arrays; training writes it anew") from error


def _number(arrays: Mapping[str, np.ndarray], name: str, absent: float) -> float:
    value = arrays.get(name)
    usable = value is not None and value.size == 1 and value.dtype.kind in "iuf"
    number = float(value.reshape(())) if usable and value is not None else absent
    return number if np.isfinite(number) else absent


def _video(path: epath.Path, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int, int]:
    video = arrays.get("video_BxTxHxWx3")
    if video is None or video.ndim != 5 or video.shape[-1] != 3 or video.dtype != np.uint8 or video.size == 0:
        found = "nothing" if video is None else f"{video.dtype} of shape {video.shape}"
        raise ValueError(f"video_BxTxHxWx3 should be uint8 of shape (B, T, H, W, 3), found {found}")
    patch, tubelet = int(_number(arrays, "patch", 0)), int(_number(arrays, "tubelet", 0))
    frames, height, width = video.shape[1:4]
    if patch < 1 or tubelet < 1 or frames % tubelet or height % patch or width % patch:
        raise ValueError(
            f"patch {patch} and tubelet {tubelet} do not divide the video of {frames} frames, {height} x {width} pixels"
        )
    return video, patch, tubelet


def _grid(video: np.ndarray, patch: int, tubelet: int) -> dict[str, int]:
    clips, frames, height, width = video.shape[:4]
    return {"B": clips, "t": frames // tubelet, "gh": height // patch, "gw": width // patch}


def _fit(field: str, array: np.ndarray | None, grid: Mapping[str, int]) -> tuple[np.ndarray | None, str]:
    """The array cut to the shown clips, or None with the reason."""
    if array is None:
        return None, "" if field in _OPTIONAL else f"{field} was not saved."
    letters = field.split("_")[1].split("x")
    wanted = tuple(grid[letter] for letter in letters if letter in grid)
    numeric = array.dtype.kind in "biuf"
    fits = array.ndim == len(letters) and array.shape[: len(wanted)] == wanted and array.size
    if not (numeric and fits):
        return None, f"{field} was left out: its shape is {array.shape} ({array.dtype}), expected {wanted}."
    return array[:MOST_CLIPS].astype(bool if field in _FLAGS else np.float32), ""
