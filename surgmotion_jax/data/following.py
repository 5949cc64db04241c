"""Finds a second movie in a file: what `cat` makes of two mp4, mkv or avi files, of which decoders see the first."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MOST_BOXES = 100_000
"""Fragmented recordings have a pair of boxes for each second or so; after this many nothing more is looked at."""


def following_movie(path: str) -> int | None:
    """The byte at which a second movie begins, or None. Reads the headers of the outermost boxes only."""
    with open(path, "rb") as file:
        head = file.read(12)
        size = os.fstat(file.fileno()).st_size
        if head[4:8] == b"ftyp":
            return _in_mp4(file, size)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return _in_avi(file, size)
        return _in_matroska(file, size) if head[:4] == _EBML else None


class Box(NamedTuple):
    """An outermost box of an mp4."""

    name: bytes
    place: int  # the byte at which it begins
    head: int  # bytes of its length and name
    length: int  # bytes, as it says


def outermost_boxes(file: BinaryIO, size: int) -> Iterator[Box]:
    """The boxes of an mp4 of `size` bytes one after another, up to one whose length cannot be."""
    place = 0
    for _ in range(_MOST_BOXES):
        if place + 8 > size:
            return
        file.seek(place)
        start = file.read(16)
        length, name = struct.unpack(">I4s", start[:8])
        head = 8
        if length == 1 and len(start) == 16:
            (length,), head = struct.unpack(">Q", start[8:]), 16
        yield Box(name, place, head, length)
        if length < head:  # to the end of the file, or damaged
            return
        place += length


def _in_mp4(file: BinaryIO, size: int) -> int | None:
    """A movie begins with `ftyp`, and has one."""
    for box in outermost_boxes(file, size):
        if box.name == b"ftyp" and box.place:
            return box.place
    return None


def _in_avi(file: BinaryIO, size: int) -> int | None:
    """A movie is a chunk `RIFF` of kind `AVI `; a large one goes on in chunks of kind `AVIX`."""
    place = 0
    while place + 12 <= size:
        file.seek(place)
        name, length, kind = struct.unpack("<4sI4s", file.read(12))
        if name != b"RIFF":
            return None
        if kind == b"AVI " and place:
            return place
        place += 8 + length + length % 2
    return None


def _in_matroska(file: BinaryIO, size: int) -> int | None:
    """A movie is an EBML header and a segment, each with its length."""
    place = 0
    for identity in (_EBML, _SEGMENT):
        file.seek(place)
        head = file.read(12)
        length = _length(head[4:])
        if head[:4] != identity or length is None:
            return None
        place += 4 + length[0] + length[1]
        if place >= size:
            return None
    file.seek(place)
    return place if file.read(4) == _EBML else None


def _length(head: bytes) -> tuple[int, int] | None:
    """(bytes of a length, the length) at the beginning of `head`; None where it is unknown, as of a live stream."""
    if not head or not head[0]:
        return None
    width = 9 - head[0].bit_length()
    value = int.from_bytes(head[:width], "big") - (1 << 7 * width)
    return None if len(head) < width or value == (1 << 7 * width) - 1 else (width, value)
