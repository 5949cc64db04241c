"""JPEG files to RGB pictures and back, for frames that this program stored.

Decoding is nearly all that a clip of records costs. simplejpeg, an extra, needs half to two thirds of the time of
Pillow, which serves where it is not installed: both are libjpeg-turbo, and give the same pictures, bit for bit. What
others stored goes through `data.still`, which knows of palettes and orientations.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from surgmotion_jax.data.still import IMAGE_ERRORS

try:
    import simplejpeg
except ImportError:  # the extra `records`
    simplejpeg = None


def encode_jpeg(picture_HxWx3: np.ndarray, quality: int) -> bytes:
    """A JPEG file with colours at half the resolution, the same bytes for the same picture."""
    file = io.BytesIO()
    Image.fromarray(picture_HxWx3).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decode_jpeg(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """The picture of a JPEG file, uint8 [H, W, 3].

    Raises ValueError where it does not decode, or is not of `size`, (height, width), which its header is asked for
    before anything is decoded.
    """
    decode: Callable[[bytes, tuple[int, int]], np.ndarray] = by_simplejpeg if simplejpeg else by_pillow
    return decode(data, size)


def decode_scaled(data: bytes, size: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """`decode_jpeg`, at another (height, width), scaled as an image of a frame folder is."""
    picture = decode_jpeg(data, size)
    if wanted == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(wanted[::-1], Image.Resampling.BILINEAR))


def by_simplejpeg(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """`decode_jpeg` by simplejpeg."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check((height, width), size)
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        raise ValueError(f"a frame does not decode: {error}") from error


def by_pillow(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """`decode_jpeg` by Pillow."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            _check((image.height, image.width), size)
            return np.asarray(image.convert("RGB"))
    except IMAGE_ERRORS as error:
        raise ValueError(f"a frame does not decode: {error}") from error


def _check(found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        told = "{1} x {0}".format(*found), "{1} x {0}".format(*expected)
        raise ValueError(f"{told[0]} pixels in a case of {told[1]}")
