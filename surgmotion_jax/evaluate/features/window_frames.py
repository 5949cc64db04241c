"""Reads the frames of windows at the encoder's square size.

Letters: W windows, T frames of a window, S side of the square, h and w rows and columns of a decoded frame.
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.checks import one_of
from surgmotion_jax.data.decode import read_frames
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits, VideoInfo
from surgmotion_jax.evaluate.config import RESIZES


def read_windows(
    info: VideoInfo, times_WxT: np.ndarray, side: int, resize: str, limits: Limits = DEFAULT_LIMITS
) -> np.ndarray:
    """The frames on display at `times`, uint8 [W,T,S,S,3].

    All windows are read in one pass, so that windows that overlap decode their common frames once. `resize` is one of
    `RESIZES`; see `decoded_size`. Raises UnreadableVideo naming the file and why.
    """
    time_N = np.sort(times_WxT.reshape(-1))
    order_N = np.argsort(times_WxT.reshape(-1), kind="stable")
    frame_NxSxSx3 = fit(
        read_frames(info.path, time_N.tolist(), decoded_size(info, side, resize), info=info, limits=limits), side
    )
    frames = np.empty_like(frame_NxSxSx3)
    frames[order_N] = frame_NxSxSx3
    return frames.reshape(*times_WxT.shape, side, side, 3)


def decoded_size(info: VideoInfo, side: int, resize: str) -> tuple[int, int]:
    """(rows, columns) to decode to: `letterbox` scales the whole frame into the square and leaves black bars,
    `squash` stretches it to the square, `center_crop` scales the short side to the square and drops the rest.
    """
    return scaled_size((info.height, info.width), side, resize)


def scaled_size(sides: tuple[int, int], side: int, resize: str) -> tuple[int, int]:
    """As `decoded_size`, for a picture of `sides` (rows, columns)."""
    one_of("resize", resize, RESIZES)
    if resize == "squash":
        return side, side
    scale = side / (max(sides) if resize == "letterbox" else min(sides))
    rows, columns = (max(1, round(length * scale)) for length in sides)
    return rows, columns


def fit(frame_Nxhxwx3: np.ndarray, side: int) -> np.ndarray:
    """Centres frames in a square of `side`: black bars where they are smaller, cut where they are larger."""
    rows, columns = frame_Nxhxwx3.shape[1:3]
    y, x, height, width = _box(rows, columns, side)
    top, left = (rows - height) // 2, (columns - width) // 2
    cut = frame_Nxhxwx3[:, top : top + height, left : left + width]
    if (height, width) == (side, side):
        return cut
    square = np.zeros((len(cut), side, side, 3), cut.dtype)
    square[:, y : y + height, x : x + width] = cut
    return square


def content_box(info: VideoInfo, side: int, resize: str) -> tuple[int, int, int, int]:
    """Where in the square the video is: (top, left, rows, columns), all of it unless bars surround the frame."""
    return _box(*decoded_size(info, side, resize), side)


def _box(rows: int, columns: int, side: int) -> tuple[int, int, int, int]:
    """(top, left, rows, columns) that a frame of this size takes in the square."""
    height, width = min(rows, side), min(columns, side)
    return (side - height) // 2, (side - width) // 2, height, width
