"""What is measured on each picture of a recording, before anything is decided.

Letters: N pictures of a recording in order, H, W pixels of a picture, S pixels of a side of a small one. Colours are
RGB. Small pictures lose the shape: what is looked for in them does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 64
"""Rows and columns of a small picture."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_LIT = 20
"""A pixel that never gets brighter than this lies outside the field of view."""


class View(NamedTuple):
    """The smallest box around the field of view, as fractions of height and width."""

    top: float
    left: float
    bottom: float
    right: float


WHOLE = View(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Glance:
    """One picture, small, and what only the large one shows."""

    small_SxSx3: np.ndarray  # uint8
    sharpness: float


@dataclass(frozen=True, eq=False)
class Observed:
    """All pictures of a recording."""

    small_NxSxSx3: np.ndarray  # uint8
    sharpness_N: np.ndarray  # float32
    view: View


def glance(picture_HxWx3: np.ndarray) -> Glance:
    """Looks at one picture, uint8."""
    small = Image.fromarray(picture_HxWx3).resize((SIDE, SIDE), Image.Resampling.BOX)
    return Glance(np.asarray(small), sharpness(picture_HxWx3))


def sharpness(picture_HxWx3: np.ndarray) -> float:
    """How steep the steepest edges are against the contrast of the picture: 1 for an edge one pixel wide, 0 for none.

    The 99th percentile of differences between neighbouring pixels, over the range from the 1st to the 99th percentile
    of levels. Lens and compression lower it for the whole of a recording, a lost focus for a stretch.
    """
    level_HxW = np.ascontiguousarray(picture_HxWx3[..., 1]).astype(np.int16)
    steps = np.abs(np.diff(level_HxW[::2], axis=1)), np.abs(np.diff(level_HxW[:, ::2], axis=0))
    low, high = np.percentile(level_HxW[::4, ::4], (1, 99))
    steep = max(float(np.percentile(step, 99)) for step in steps)
    return steep / max(1.0, float(high - low))


def lit(small_NxSxSx3: np.ndarray) -> View:
    """The field of view: what lights up at some time. Everything where nothing does."""
    bright_SxS = small_NxSxSx3.max(axis=(0, 3)) > _LIT
    if not bright_SxS.any():
        return WHOLE
    rows, columns = np.flatnonzero(bright_SxS.any(1)), np.flatnonzero(bright_SxS.any(0))
    side = bright_SxS.shape[0]
    return View(rows[0] / side, columns[0] / side, (rows[-1] + 1) / side, (columns[-1] + 1) / side)


def inside(small_NxSxSx3: np.ndarray, view: View) -> np.ndarray:
    """The part of small pictures that lies in a view, uint8 [N, h, w, 3]."""
    side = small_NxSxSx3.shape[1]
    top, left, bottom, right = (round(edge * side) for edge in view)
    return small_NxSxSx3[:, top : max(bottom, top + 1), left : max(right, left + 1)]


def luma(pictures_Nxhxwx3: np.ndarray) -> np.ndarray:
    """Levels of grey, float32 [N, h, w]."""
    return pictures_Nxhxwx3.astype(np.float32) @ LUMA


def changes(pictures_Nxhxwx3: np.ndarray) -> np.ndarray:
    """Mean difference in level of each picture to the one before, float32 [N]; infinite for the first."""
    if not len(pictures_Nxhxwx3):
        return np.zeros(0, np.float32)
    steps = [
        np.abs(after.astype(np.int16) - before.astype(np.int16)).mean() for before, after in pairwise(pictures_Nxhxwx3)
    ]
    return np.array([np.inf, *steps], np.float32)


def palettes(pictures_Nxhxwx3: np.ndarray) -> np.ndarray:
    """The part of each picture that has each of 64 coarse colours, float32 [N, 64]."""
    cell_NxP = _cells(pictures_Nxhxwx3, 2)
    return np.stack([np.bincount(cell_P, minlength=64) / len(cell_P) for cell_P in cell_NxP]).astype(np.float32)


def colours(pictures_Nxhxwx3: np.ndarray) -> np.ndarray:
    """How many of 4,096 fine colours make up nine tenths of each picture, int [N]."""
    counts = []
    for cell_P in _cells(pictures_Nxhxwx3, 4):
        part = np.sort(np.bincount(cell_P))[::-1].cumsum() / len(cell_P)
        counts.append(int(np.searchsorted(part, 0.9)) + 1)
    return np.array(counts, np.int64)


def tissue(pictures_Nxhxwx3: np.ndarray) -> np.ndarray:
    """The part of each picture that has the colours of tissue or blood, float32 [N].

    Red leads green by a tenth and is no darker than blue; what is nearly black or burnt out does not count, and where
    all of it is, the part is 1: a dark picture says nothing.
    """
    red, green, blue = (pictures_Nxhxwx3[..., c].astype(np.int16) for c in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    counted = (brightest > 30) & (np.minimum(np.minimum(red, green), blue) < 235)
    warm = counted & (10 * red > 11 * green) & (red >= blue)
    number_N = counted.sum(axis=(1, 2))
    return np.where(number_N > 0, warm.sum(axis=(1, 2)) / np.maximum(number_N, 1), 1.0).astype(np.float32)


def _cells(pictures_Nxhxwx3: np.ndarray, bits: int) -> np.ndarray:
    """The number of each pixel's colour at so many bits a channel, int64 [N, pixels]."""
    coarse = (pictures_Nxhxwx3 >> (8 - bits)).astype(np.int64)
    return (coarse @ np.array([1 << 2 * bits, 1 << bits, 1])).reshape(len(coarse), -1)
