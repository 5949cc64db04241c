"""A perceptual hash of each second of a recording, which survives what recordings go through when they are passed on.

The pictures of a second are averaged, the middle of the field of view is cut out, and the signs of its lowest spatial
frequencies are 128 bits. Resizing, recompression, a letterbox, brightness and contrast leave most of them as they are;
another moment of another operation agrees in half of them. Nothing of a picture can be seen in them.

Letters: N small pictures of a recording, at `rate` a second, S their side; T seconds; W words of 64 bits, 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.fft import dctn

from surgmotion_jax.corpus.observe import LUMA, View

BITS = 128
_MIDDLE = 0.7
"""The part of the field of view that is looked at: of a round one, the square inside it."""

_GRID = 32
_FLAT = 4.0
"""A second whose levels deviate by less than this from their mean shows nothing that could be recognised."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The seconds of one recording. Row t is of the second that begins at `first_s + t`."""

    dataset: str
    case: str
    hash_TxW: np.ndarray  # uint64
    strong_T: np.ndarray  # bool; False marks a second that shows nothing
    first_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.case}"

    def __len__(self) -> int:
        return len(self.hash_TxW)


def hashes(small_NxSxSx3: np.ndarray, rate: float, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the seconds of a recording, uint64 [T, W], and whether each shows enough to be recognised by, bool [T].

    Pictures that the recording ends with before their second is over are left out, unless it is the only one.
    """
    middle_TxGxG = np.stack(
        [_middle(second, view) for second in _seconds(small_NxSxSx3, rate)] or [np.zeros((_GRID, _GRID))]
    )
    spectrum_TxGxG = dctn(middle_TxGxG, axes=(1, 2), norm="ortho")
    rows, columns = _lowest(BITS)
    sign_TxB = spectrum_TxGxG[:, rows, columns] > 0
    words = np.ascontiguousarray(np.packbits(sign_TxB, axis=1)).view(">u8").astype(np.uint64)
    return words, middle_TxGxG.std((1, 2)) >= _FLAT


def distance(one_TxW: np.ndarray, other_TxW: np.ndarray) -> np.ndarray:
    """The number of bits in which hashes differ, int [T]: 0 to 128, about 64 for what has nothing in common."""
    return np.bitwise_count(one_TxW ^ other_TxW).sum(-1).astype(np.int64)


def _seconds(small_NxSxSx3: np.ndarray, rate: float) -> list[np.ndarray]:
    """The mean picture of each whole second in grey, float32 [S, S]."""
    count = max(1, int(len(small_NxSxSx3) / rate + 1e-6))
    edges = np.round(np.arange(count + 1) * rate).astype(int)
    spans = [slice(start, max(stop, start + 1)) for start, stop in pairwise(edges)]
    return [small_NxSxSx3[span].mean(0, dtype=np.float32) @ LUMA for span in spans if len(small_NxSxSx3[span])]


def _middle(picture_SxS: np.ndarray, view: View) -> np.ndarray:
    """The middle of the field of view, float32 [G, G], between pixels where it must be."""
    side = picture_SxS.shape[0]
    rows = _places(view.top, view.bottom, side)
    columns = _places(view.left, view.right, side)
    return _sampled(_sampled(picture_SxS, rows).T, columns).T


def _places(start: float, stop: float, side: int) -> np.ndarray:
    """Where the samples lie along one axis, in pixels."""
    centre, length = (start + stop) / 2, _MIDDLE * (stop - start)
    return (centre + length * ((np.arange(_GRID) + 0.5) / _GRID - 0.5)) * side - 0.5


def _sampled(picture_SxS: np.ndarray, place_G: np.ndarray) -> np.ndarray:
    """Rows at fractional places, linearly between their neighbours."""
    place_G = np.clip(place_G, 0, len(picture_SxS) - 1)
    low_G = np.minimum(place_G.astype(int), len(picture_SxS) - 2)
    part_Gx1 = (place_G - low_G)[:, None]
    return (1 - part_Gx1) * picture_SxS[low_G] + part_Gx1 * picture_SxS[low_G + 1]


def _lowest(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the lowest spatial frequencies, the mean left out."""
    pairs = [(row, column) for row in range(_GRID) for column in range(_GRID)]
    order = sorted(pairs, key=lambda pair: (pair[0] + pair[1], pair[0]))[1 : count + 1]
    rows, columns = zip(*order, strict=True)
    return np.array(rows), np.array(columns)
