"""Masks of one object as people store them: white on black, ones, a grey, a colour, a palette, an alpha channel, JPEG.

What can mean only one thing is read; a picture of several classes, or one without a background, is refused. Letters: H
rows, W columns, C channels.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.stored import read_file
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits, UnreadableVideo
from surgmotion_jax.data.still import IMAGE_ERRORS

RIM = 2
"""Blurred pixels between object and background lie within this many pixels of either; further in is a third class."""

NEAR = 0.25
"""A value within this share of the object's own counts as object or as background, whichever it is near."""

NOISE = 8
"""Values up to this one, of 255, in a JPEG are what compression leaves of black."""

_ASKS = "one object on a black background: zeros and ones, black and white, one grey, one colour, or an alpha channel"


def decode_mask(path: Path, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """A mask, bool [H, W]: where a picture is over half white, or where the object's own colour or grey is over half.

    Raises:
        BenchmarkError: missing, not an image, of several grey values or colours, or without a background.
    """
    picture, lossy = _open(path, limits)
    value_HxW = _alpha(picture) if _only_alpha(picture) else _strength(path, picture)
    return _above_half(path, value_HxW, lossy)


def _open(path: Path, limits: Limits) -> tuple[np.ndarray, bool]:
    """The picture, [H, W] of one channel or uint8 [H, W, 3 or 4], and whether it was compressed with loss."""
    try:
        with Image.open(io.BytesIO(read_file(path))) as image:
            limits.check_pixels(str(path), *image.size)
            alpha = image.has_transparency_data
            plain = image.mode in ("1", "L", "F") or image.mode.startswith("I")
            read = image if plain and not alpha else image.convert("RGBA" if alpha else "RGB")
            return np.asarray(read), image.format in ("JPEG", "WEBP")
    except UnreadableVideo as error:
        raise BenchmarkError(path, error.reason, "a mask of ordinary size", "restore it") from error
    except BenchmarkError:
        raise
    except IMAGE_ERRORS as error:
        raise BenchmarkError(path, f"no readable image ({error})", "a mask as an image file", "restore it") from error


def _only_alpha(picture: np.ndarray) -> bool:
    """Whether the colour says nothing, and the transparency something."""
    if picture.ndim != 3 or picture.shape[2] != 4:
        return False
    alpha_HxW = picture[..., 3]
    if not alpha_HxW.any():  # nothing is painted
        return bool((picture == picture[0, 0]).all())
    seen_NxC = picture[alpha_HxW > 0][:, :3]
    return bool(np.ptp(alpha_HxW) > 0 and (seen_NxC == seen_NxC[0]).all())


def _alpha(picture_HxWx4: np.ndarray) -> np.ndarray:
    return picture_HxWx4[..., 3].astype(np.float64)


def _strength(path: Path, picture: np.ndarray) -> np.ndarray:
    """How strong the object's colour is at each pixel, float [H, W]. Raises BenchmarkError for several colours."""
    if picture.ndim == 2:
        return picture.astype(np.float64)
    if picture.shape[2] == 4:
        if np.ptp(picture[..., 3]) > 0:
            asks = "a transparency that is the same everywhere, or a colour that is"
            raise BenchmarkError(path, "a mask whose colour and transparency both vary", asks, "export it again")
        picture = picture[..., :3]
    colour_HxWxC = picture.astype(np.float64)
    value_HxW = colour_HxWxC.max(-1)
    object_HxW = value_HxW > value_HxW.max() / 2
    if object_HxW.any():
        middle_C = np.median(colour_HxWxC[object_HxW], axis=0)
        other_HxW = object_HxW & (np.abs(colour_HxWxC - middle_C).max(-1) > NEAR * value_HxW.max())
        if _has_interior(other_HxW):
            named = ", ".join(str(tuple(int(v) for v in c)) for c in (middle_C, colour_HxWxC[other_HxW][0]))
            raise BenchmarkError(path, f"several colours ({named})", _ASKS, "export one mask a class")
    return value_HxW


def _above_half(path: Path, value_HxW: np.ndarray, lossy: bool) -> np.ndarray:
    """Where values are above half of the largest. Raises BenchmarkError where they do not fall into two groups."""
    if not np.isfinite(value_HxW).all() or value_HxW.min() < 0:
        raise BenchmarkError(path, "values that are negative or not finite", _ASKS, "export it again")
    top = float(value_HxW.max())
    if top == 0 or (lossy and top <= NOISE):
        return np.zeros(value_HxW.shape, bool)
    least = float(value_HxW.min())
    if least > NEAR * top and not _all_white(least, top):
        some = f"{top:g} everywhere" if least == top else f"{least:g} to {top:g} and nothing near 0"
        raise BenchmarkError(path, f"values of {some}", _ASKS, "export it again")
    between_HxW = (value_HxW > NEAR * top) & (value_HxW < (1 - NEAR) * top)
    if _has_interior(between_HxW):
        some = ", ".join(f"{v:g}" for v in np.unique(value_HxW[between_HxW])[:3])
        raise BenchmarkError(path, f"a third value beside 0 and {top:g} ({some})", _ASKS, "export one mask a class")
    white = (1 - NEAR) * 255 <= top <= 255
    return value_HxW > (127 if white else top / 2)


def _all_white(least: float, top: float) -> bool:
    """Whether a picture without a background shows an object that fills it."""
    return least == top in (1, 65535) or 255 - NOISE <= least <= top <= 255


def _has_interior(region_HxW: np.ndarray) -> bool:
    """Whether a region is thicker than the rim of a blurred edge has a right to be."""
    if not region_HxW.any():
        return False
    side = 2 * RIM + 1
    if min(region_HxW.shape) < side:
        return bool(region_HxW.mean() > NEAR)
    windows = np.lib.stride_tricks.sliding_window_view(region_HxW, (side, side))
    return bool(windows.all((-2, -1)).any())
