"""Reads a folder of images as a video: frame i, in natural order, is on display from i / fps seconds."""

import os
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from surgmotion_jax.data.media import (
    FrameTable,
    Limits,
    Size,
    UnreadableVideo,
    VideoInfo,
    check_times,
    covering,
)
from surgmotion_jax.data.still import IMAGE_ERRORS, decoded_still, displayed_size, open_still

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


NUMBER = re.compile(r"\d+")


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which frame10 comes after frame9."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    # The name itself ends the key: 1.jpg and 01.jpg would tie, and their order depend on the file system.
    return [*((0, int(part)) if part.isdecimal() else (1, part) for part in parts), (1, name)]


def image_names(folder: str) -> list[str]:
    """Names of the images that lie directly in `folder`, in natural order."""
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return sorted((name for name in names if name.lower().endswith(IMAGE_SUFFIXES)), key=natural_key)


def probe_images(folder: str, limits: Limits, fps: float) -> VideoInfo:
    """Looks at the first image and counts the others; they are checked when read.

    Raises:
        UnreadableVideo: fewer than two images, a first image that does not open, or a cap exceeded.
    """
    names = tuple(image_names(folder))
    if len(names) < 2:
        raise UnreadableVideo(folder, f"{len(names)} image(s) in the frame folder; a video needs at least 2")
    first = os.path.join(folder, names[0])
    try:
        with Image.open(first) as image:
            limits.check_pixels(first, *image.size)
            width, height = displayed_size(image)
    except UnreadableVideo:
        raise
    except IMAGE_ERRORS as error:
        raise UnreadableVideo(folder, f"image {names[0]} does not open: {error}") from error
    limits.check_duration(folder, len(names) / fps)
    base = 1 / Fraction(fps).limit_denominator(1_000_000)
    return VideoInfo(folder, len(names) / fps, fps, width, height, base, origin=0, images=names)


def read_images(info: VideoInfo, times_s: Sequence[float], size: Size, limits: Limits) -> np.ndarray:
    """Frames on display at `times_s`, uint8 [T, H, W, 3]. Raises UnreadableVideo naming the bad image."""
    check_times(times_s)
    row_T = [min(info.tick(time_s), len(info.images) - 1) for time_s in times_s]
    frames = {row: _read_image(info, row, size, limits) for row in dict.fromkeys(row_T)}
    return np.stack([frames[row] for row in row_T])


def read_single_image(info: VideoInfo, time_s: float, canvas: tuple[int, int], limits: Limits) -> np.ndarray:
    """The image on display at `time_s`, scaled to cover the canvas, uint8 [1, H, W, 3].

    Unlike a frame of a video it may have another size than the folder's other images. Raises UnreadableVideo naming it.
    """
    check_times([time_s])
    path = os.path.join(info.path, info.images[min(info.tick(time_s), len(info.images) - 1)])
    with decoded_still(path, "image does not decode"), Image.open(path) as image:
        width, height = displayed_size(image)
        upright = open_still(path, image, limits, (width, height), "itself")
        rows, columns = covering((height, width), canvas)
        return np.asarray(upright.resize((columns, rows), Image.Resampling.BILINEAR))[None]


def read_all_images(info: VideoInfo, size: Size, limits: Limits) -> FrameTable:
    """Every frame of the folder."""
    rows = range(len(info.images))
    video = np.stack([_read_image(info, row, size, limits) for row in rows])
    return FrameTable(info, np.arange(len(info.images), dtype=np.int64), video)


def _read_image(info: VideoInfo, row: int, size: Size, limits: Limits) -> np.ndarray:
    path = os.path.join(info.path, info.images[row])
    height, width = info.output_size(size)
    with decoded_still(path, "image does not decode"), Image.open(path) as image:
        upright = open_still(path, image, limits, (info.width, info.height), "a folder that starts with")
        return np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR))
