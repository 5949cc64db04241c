"""What was found in a readable file that is not stored as it looks, and what is done about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from PIL import Image

from surgmotion_jax.data.images import NUMBER
from surgmotion_jax.data.look import UPRIGHT, Look
from surgmotion_jax.data.media import VideoInfo
from surgmotion_jax.data.picture import HD_ROWS
from surgmotion_jax.data.still import IMAGE_ERRORS, displayed_size, orientation

_THREADS = 8
"""Headers of images are read one by one, and waiting for a disk is most of it."""


@dataclass(frozen=True)
class Finding:
    """One thing that sets a file off from an ordinary one."""

    path: str
    found: str
    done: str

    @property
    def reason(self) -> str:
        """Both in one line."""
        return f"{self.found}: {self.done}"


def findings(info: VideoInfo) -> Iterator[Finding]:
    """All that is known of an opened video without reading more of it, in the order of what is done."""
    told = partial(Finding, info.path)
    if info.look is not None:
        yield from (told(found, done) for found, done in _of_look(info.look))
    if info.following is not None:
        yield told(f"another movie from byte {info.following} on", "only the first is read; cut the file there")
    for number, take in enumerate(info.takes):
        found = f"take {number + 1} of {len(info.takes)}, {take.start_s:.2f} to {take.end_s:.2f} s ({take.reason})"
        size = "{1} x {0}".format(*take.look.size)
        yield told(found, f"read on its own, at {size}: no clip straddles a border")


def _of_look(look: Look) -> Iterator[tuple[str, str]]:
    if look.interlaced:
        yield f"interlaced, as the {look.fields_from} say", "each pair of fields becomes one whole frame (bwdif)"
    if look.pixel_aspect != 1:
        ratio = f"{look.pixel_aspect.numerator}:{look.pixel_aspect.denominator}"
        wide = max(1, round(look.columns * look.pixel_aspect))
        yield f"pixels of {ratio}", f"{look.columns} x {look.rows} is shown as {wide} x {look.rows}"
    if look.ignored_aspect is not None:
        ratio = f"{look.ignored_aspect.numerator}:{look.ignored_aspect.denominator}"
        yield f"pixels of {ratio}, which is no camera's", "taken for square"
    if look.turn != UPRIGHT:
        yield "a display matrix", f"pictures are {look.turn}"
    if not look.tagged and look.rows >= HD_ROWS:
        yield "colours without a tag", f"read by {look.matrix}, as from {HD_ROWS} rows up"
    if look.matrix == "BT.2020":
        yield "colours of BT.2020", "its matrix is undone, its wider primaries are kept"
    if not look.strict:
        yield "an encoder that a strict decoder refuses", "decoded leniently: damage is noticed less surely"


def image_findings(info: VideoInfo) -> list[Finding]:
    """What the headers of all images of a folder tell: files that reading would refuse, and numbers that are missing.

    Empty for what is no folder of images.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="headers") as pool:
        found = list(pool.map(partial(_of_image, info), info.images))
    return [finding for finding in found if finding is not None] + list(_gaps(info))


def _of_image(info: VideoInfo, name: str) -> Finding | None:
    path = os.path.join(info.path, name)
    try:
        with Image.open(path) as image:
            size, turned = displayed_size(image), orientation(image)
    except IMAGE_ERRORS as error:
        return Finding(path, f"unreadable image ({error})", "no clip shows it")
    if size != (info.width, info.height):
        found = "an image of {} x {}".format(*size) + f" in a folder that starts with {info.width} x {info.height}"
        return Finding(path, found, "no clip shows it")
    return Finding(path, f"EXIF orientation {turned}", "turned upright") if turned != 1 else None


def _gaps(info: VideoInfo) -> Iterator[Finding]:
    """Numbers left out of names that otherwise count in steps of one size."""
    numbers = [int(found[-1]) for name in info.images if (found := NUMBER.findall(os.path.splitext(name)[0]))]
    steps = [after - before for before, after in pairwise(numbers)]
    if len(numbers) < len(info.images) or not steps or min(steps) < 1:
        return
    usual = min(steps)
    for name, step in zip(info.images, steps, strict=False):
        if step != usual:
            missing = f"{step // usual - 1} number(s) missing after {name}"
            yield Finding(info.path, missing, "the images on either side follow one another")
