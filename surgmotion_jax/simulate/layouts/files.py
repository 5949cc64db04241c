"""The kinds of file that layouts are made of, each written in one place."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.data.write_video import VideoWriter
from surgmotion_jax.simulate.layouts.layout import SimulatedCase

JPEG_QUALITY = 95


def write_mp4(case: SimulatedCase, path: Path) -> None:
    """Every frame of a case as H.264."""
    with VideoWriter(path, case.fps) as writer:
        for frame in case.frames():
            writer.add(frame.video_HxWx3)


def write_images(case: SimulatedCase, rate: float, path_of: Callable[[int], Path]) -> None:
    """The frames on display at k / rate seconds as images; the suffix of `path_of(k)` names the format."""
    for k, frame in case.at_rate(rate):
        write_image(path_of(k), frame.video_HxWx3)


def write_image(path: Path, picture: np.ndarray) -> None:
    """One picture as JPEG or PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(picture)
    if path.suffix == ".jpg":
        image.save(path, quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(path)


def write_mask(path: Path, mask_HxW: np.ndarray) -> None:
    """White where the mask is true, black elsewhere."""
    write_image(path, np.where(mask_HxW, 255, 0).astype(np.uint8))


def write_table(
    path: Path, header: Sequence[str] | None, rows: Iterable[Sequence[object]], delimiter: str = ","
) -> None:
    """A delimited text file."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    storage.write_text_atomic(path, text.getvalue())
