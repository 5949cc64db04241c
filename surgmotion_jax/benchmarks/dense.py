"""Masks and depth maps in the size of their clip. Letters: H rows, W columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.depth_files import decode_depth
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.masks import decode_mask
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits

Shape = tuple[int, int]
"""(height, width)"""


def read_mask(path: Path, stored: Shape, wanted: Shape, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """A mask as bool [H, W] of the wanted size, resized by nearest neighbour.

    Raises:
        BenchmarkError: missing, not an image, or not of the size in which the frame is stored.
    """
    image = decode_mask(path, limits)
    _check_shape(path, image.shape, stored, "the mask")
    return _nearest(image, wanted)


def read_depth(path: Path, scale: float, stored: Shape, wanted: Shape, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Depth in millimetres, float32 [H, W] of the wanted size, NaN where the file holds no measurement.

    Formats are those of `depth_files`. Resizing takes the nearest pixel: a mean over a depth edge is a depth that is
    nowhere.

    Raises:
        BenchmarkError: missing, not numeric, not [H, W], or not of the size in which the frame is stored.
    """
    depth = decode_depth(path, scale, limits)
    _check_shape(path, depth.shape, stored, "the depth map")
    return _nearest(depth, wanted)


def _check_shape(path: Path, found: tuple[int, ...], stored: Shape, what: str) -> None:
    if found != stored:
        raise BenchmarkError(
            path,
            f"{found[1]} x {found[0]} pixels",
            f"{stored[1]} x {stored[0]}, the size of its frame",
            f"export {what} in the size of the frame",
        )


def _nearest(picture_HxW: np.ndarray, wanted: Shape) -> np.ndarray:
    height, width = picture_HxW.shape
    # Pixel centres: the middle of an output pixel falls into one input pixel.
    row_h = ((2 * np.arange(wanted[0]) + 1) * height) // (2 * wanted[0])
    column_w = ((2 * np.arange(wanted[1]) + 1) * width) // (2 * wanted[1])
    return np.ascontiguousarray(picture_HxW[row_h[:, None], column_w[None, :]])
