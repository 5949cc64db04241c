"""Depth maps: files of several formats to float32 millimetres, with NaN where nothing was measured.

Letters: H rows, W columns.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.masks import decode_mask
from surgmotion_jax.benchmarks.stored import read_file
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits, UnreadableVideo
from surgmotion_jax.data.still import IMAGE_ERRORS
from surgmotion_jax.data.tfds_source import is_tfds

__all__ = [
    "DEPTH_SUFFIXES",
    "decode_depth",
    "decode_mask",
    "depth_size",
    "encode_depth",
    "image_size",
    "require_same_size",
]
"""Masks are read by `masks`; scripts of before look for them here."""

DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")

_ASKS = "a 16-bit grey PNG or TIFF, a float TIFF with 1 or 3 channels, or a numeric NPY of [H, W]"


def decode_depth(path: Path, scale: float = 1.0, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Depth along the optical axis, float32 [H, W] in millimetres, NaN where the file has 0 or no finite number.

    Args:
        path: PNG, TIFF, NPY, or a `tfds:` location of a depth map. Of a TIFF of 3-D points (x, y, z) it is z.
        scale: millimetres per unit of an integer file; files of floats hold millimetres.

    Raises:
        BenchmarkError: missing, damaged, not numeric, of another shape or bit depth, or with a negative depth.
    """
    stored_HxW = _stored(path, limits)
    depth_HxW = stored_HxW.astype(np.float32)
    if stored_HxW.dtype.kind in "iu":
        depth_HxW *= np.float32(scale)
    depth_HxW[~np.isfinite(depth_HxW) | (depth_HxW == 0)] = np.nan
    if (depth_HxW < 0).any():
        least = float(np.nanmin(depth_HxW))
        raise BenchmarkError(path, f"a depth of {least:g}", "depths above 0, and 0 or NaN where unknown", "restore it")
    return depth_HxW


def image_size(path: Path) -> tuple[int, int]:
    """(rows, columns) of an image, from its header. Raises BenchmarkError where it has none."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise BenchmarkError(path, "no such file", "this image", "put it there") from None
    except IMAGE_ERRORS as error:
        raise BenchmarkError(path, f"no readable image ({error})", "an image file", "restore it") from error


def depth_size(path: Path) -> tuple[int, int]:
    """(rows, columns) of a depth map, from its header.

    Raises BenchmarkError where it has none, and where the header tells that the file holds no depth: 8 bits, a colour.
    """
    try:
        dtype, shape = _HEADERS[path.suffix.lower()](path)
    except KeyError:
        raise _other_suffix(path) from None
    except FileNotFoundError:
        raise BenchmarkError(path, "no such file", "this depth map", "put it there") from None
    except (*IMAGE_ERRORS, IndexError, EOFError) as error:
        raise BenchmarkError(path, f"no readable depth map ({error})", _ASKS, "restore it") from error
    _check_kind(path, dtype, shape)
    return shape[0], shape[1]


def _png_header(path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    with Image.open(path, formats=("PNG",)) as image:
        deep = image.mode.startswith("I")  # 16 bits, which Pillow opens in one of its 32-bit modes at times
        shape = (image.height, image.width) if len(image.getbands()) == 1 else (image.height, image.width, 3)
        return np.dtype(np.uint16 if deep else np.uint8), shape


def _tiff_header(path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return np.dtype(page.dtype), tuple(page.shape)


def _npy_header(path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    return stored.dtype, stored.shape


_HEADERS = {".png": _png_header, ".tif": _tiff_header, ".tiff": _tiff_header, ".npy": _npy_header}


def require_same_size(path: Path, found: tuple[int, int], image: Path, wanted: tuple[int, int]) -> None:
    """Raises BenchmarkError where an annotation has another size than its image."""
    if found != wanted:
        raise BenchmarkError(
            path, f"{found[1]} x {found[0]} pixels", f"{wanted[1]} x {wanted[0]}, the size of {image.name}",
            "restore the original pair: resizing an annotation changes it",
        )  # fmt: skip


def encode_depth(depth_HxW: np.ndarray) -> bytes:
    """Depth in millimetres as a float TIFF that `decode_depth` gives back bit by bit; 0 and NaN both mean unknown."""
    file = io.BytesIO()
    Image.fromarray(depth_HxW.astype(np.float32)).save(file, "TIFF", compression="tiff_adobe_deflate")
    return file.getvalue()


def _stored(path: Path, limits: Limits) -> np.ndarray:
    """The numbers as the file has them, uint16 or float [H, W]."""
    data, suffix = read_file(path), path.suffix.lower()
    try:
        if is_tfds(str(path)):
            stored = _image_array(path, data, limits)
        elif suffix == ".npy":
            # A pickle inside an NPY could run code when read.
            stored = np.load(io.BytesIO(data), allow_pickle=False)
        elif suffix in (".tif", ".tiff"):
            stored = _tiff_array(path, data, limits)
        elif suffix == ".png":
            stored = _image_array(path, data, limits)
        else:
            raise _other_suffix(path)
    except (BenchmarkError, UnreadableVideo):
        raise
    except (*IMAGE_ERRORS, IndexError, KeyError, EOFError) as error:
        raise BenchmarkError(path, f"no readable depth map ({error})", _ASKS, "restore it") from error
    return _checked(path, stored)


def _tiff_array(path: Path, data: bytes, limits: Limits) -> np.ndarray:
    """Read by tifffile: Pillow opens no floats in three channels."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        rows, columns, *_ = page.shape
        limits.check_pixels(str(path), columns, rows)
        return page.asarray()


def _image_array(path: Path, data: bytes, limits: Limits) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as image:
        limits.check_pixels(str(path), *image.size)
        array = np.asarray(image)
    # Pillow opens some 16-bit files in its 32-bit mode.
    return array.astype(np.uint16) if array.dtype == np.int32 and array.min() >= 0 and array.max() < 2**16 else array


def _checked(path: Path, stored: np.ndarray) -> np.ndarray:
    _check_kind(path, stored.dtype, stored.shape)
    return stored[:, :, 2] if stored.ndim == 3 else stored


def _check_kind(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Raises BenchmarkError unless these are 16-bit numbers or floats [H, W], or points as floats [H, W, 3]."""
    points = len(shape) == 3 and shape[2] == 3 and dtype.kind == "f"
    plain = len(shape) == 2 and (dtype == np.uint16 or dtype.kind == "f")
    if not (points or plain) or 0 in shape:
        raise BenchmarkError(path, f"{dtype} {list(shape)}", _ASKS, "export the depth again")


def _other_suffix(path: Path) -> BenchmarkError:
    return BenchmarkError(path, f"the ending {path.suffix!r}", f"one of {', '.join(DEPTH_SUFFIXES)}", "convert it")
