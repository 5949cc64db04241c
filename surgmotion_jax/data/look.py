"""How a stream stores its pictures, which is not how they look.

Letters: H rows, W columns of a stored picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np


@dataclass(frozen=True)
class Turn:
    """Quarter turns and mirrorings: rows and columns swapped first, then each axis reversed."""

    swapped: bool = False
    upside_down: bool = False  # rows reversed
    mirrored: bool = False  # columns reversed

    def apply(self, picture_HxWx3: np.ndarray) -> np.ndarray:
        """The picture turned, as a contiguous array; [W, H, 3] where the axes are swapped."""
        if self == UPRIGHT:
            return picture_HxWx3
        turned = picture_HxWx3.swapaxes(0, 1) if self.swapped else picture_HxWx3
        return np.ascontiguousarray(turned[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1])

    def __str__(self) -> str:
        return _TURNS[self]


UPRIGHT = Turn()

_TURNS = {
    UPRIGHT: "upright",
    Turn(False, True, True): "turned by 180 degrees",
    Turn(True, True, False): "turned by 90 degrees to the left",
    Turn(True, False, True): "turned by 90 degrees to the right",
    Turn(False, False, True): "mirrored left to right",
    Turn(False, True, False): "mirrored top to bottom",
    Turn(True, False, False): "mirrored along its diagonal",
    Turn(True, True, True): "mirrored along its other diagonal",
}


@dataclass(frozen=True)
class Look:
    """What is stored, and so what is done to each picture before anybody sees it."""

    rows: int  # pixels, as stored
    columns: int
    pixel_aspect: Fraction = Fraction(1)  # width of a stored pixel over its height
    ignored_aspect: Fraction | None = None  # a ratio that the file gives and nobody can mean
    turn: Turn = UPRIGHT  # by the display matrix
    matrix: str = "BT.601"  # from luma and colour differences to RGB
    tagged: bool = True  # whether the file says so; otherwise it was told by the number of rows
    full_range: bool = False  # luma from 0 to 255, and not from 16 to 235
    interlaced: bool = False  # two fields of different moments in one picture
    fields_from: str = "frames"  # who says so: each of the `frames`, or the `stream` for all of them
    strict: bool = True  # whether the decoder refuses what a careful encoder does not write

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as displayed: the width is scaled by the pixel aspect ratio, then the picture is turned."""
        width = max(1, round(self.columns * self.pixel_aspect))
        return (width, self.rows) if self.turn.swapped else (self.rows, width)
