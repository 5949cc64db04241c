"""What a picture is when it is a file of its own: upright, three channels of 8 bits, opaque.

The counterpart of `picture` for folders of images and stored frames. Letters: H rows and W columns as displayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from surgmotion_jax.data.media import Limits, UnreadableVideo

# Pillow reports a broken file with whichever of these its format plugin happens to raise.
IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of this EXIF orientation upright; from 5 on, its rows become columns."""

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image as displayed, from its header."""
    sideways = orientation(image) >= 5
    return (image.height, image.width) if sideways else image.size


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8; 1 where none is told."""
    told = image.getexif().get(_ORIENTATION, 1)
    return told if told in _UPRIGHT else 1


def open_still(path: str, image: Image.Image, limits: Limits, expected: tuple[int, int], among: str) -> Image.Image:
    """An opened image as RGB, once its header is known to be what is `expected`.

    Args:
        path: for messages.
        image: as Pillow opened it, not yet decoded.
        limits: caps.
        expected: (width, height) as displayed.
        among: what it is one of, for messages, as "a folder that starts with".

    Raises:
        UnreadableVideo: over a cap, of another size, or of pixels that are no colours.
        OSError, SyntaxError, ValueError: what Pillow raises where it is damaged.
    """
    limits.check_pixels(path, *image.size)
    size = displayed_size(image)
    if size != expected:
        found, first = "{} x {}".format(*size), "{} x {}".format(*expected)
        raise UnreadableVideo(path, f"image of {found} pixels in {among} {first}")
    told = orientation(image)
    opaque = _opaque(path, image)
    return opaque.transpose(_UPRIGHT[told]) if told in _UPRIGHT else opaque


def _opaque(path: str, image: Image.Image) -> Image.Image:
    """As RGB: palettes are looked up, 16 bits scaled to 8, and what is transparent is black."""
    if image.mode in _GREY_16:
        grey_HxW = np.asarray(image).astype(np.int64)
        if grey_HxW.min() < 0 or grey_HxW.max() > 65_535:
            raise UnreadableVideo(path, f"grey values from {grey_HxW.min()} to {grey_HxW.max()}; allowed are 16 bits")
        return Image.fromarray(((grey_HxW + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UnreadableVideo(path, "an image of floating-point numbers, which have no colours; export it with 8 bits")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "black")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


@contextmanager
def decoded_still(path: str, what: str) -> Iterator[None]:
    """Turns what Pillow raises into UnreadableVideo, which says that `what` does not decode."""
    try:
        yield
    except UnreadableVideo:
        raise
    except IMAGE_ERRORS as error:
        raise UnreadableVideo(path, f"{what}: {error}") from error
