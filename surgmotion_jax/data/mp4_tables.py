"""Whether the tables of an mp4 agree with one another about when each picture is displayed, and at what size.

No checksum protects them, and one wrong byte moves every later picture to another time. Letters: N pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from surgmotion_jax.data.media import UnreadableVideo

_MOST_REORDERED = 16
"""Pictures that may be decoded before a picture and displayed after it (H.264, A.3.1)."""

_LARGEST = 1 << 30
"""Bytes of tables beyond which a header is damaged: an hour has some two million."""

_OTHER_KINDS = (b"soun", b"hint", b"meta", b"text", b"sbtl", b"subt", b"subp", b"clcp", b"tmcd", b"data")
"""Tracks without pictures; a kind that is unknown may be a damaged one."""

_PIXELS = np.array([1, 1 / 2, 8 / 9, 10 / 11, 12 / 11, 16 / 15, 32 / 27, 40 / 33, 4 / 3, 64 / 45, 16 / 11, 3 / 2, 2])
"""Widths of pixels over their heights that are in use."""

_Boxes = dict[bytes, bytes]


def check_tables(path: str) -> None:
    """Raises UnreadableVideo where the tables of an mp4 contradict one another; says nothing of other files."""
    with open(path, "rb") as file:
        movie = _movie(file)
    if movie is None:
        return
    inside = dict(_boxes(movie))
    for name, track in _boxes(movie):
        if name != b"trak":
            continue
        boxes = _opened(track)
        if boxes.get(b"hdlr", b"")[8:12] not in _OTHER_KINDS and b"stsz" in boxes:
            try:
                wrong = _contradiction(boxes, inside.get(b"mvhd", b""))
            except (struct.error, ValueError, IndexError) as error:
                wrong = f"cannot be read ({error})"
            if wrong:
                raise UnreadableVideo(
                    path,
                    f"its tables contradict one another: {wrong}; copy it again, or leave it out",
                )


def _movie(file: BinaryIO) -> bytes | None:
    """The content of the box that holds all tables."""
    place = 0
    while len(head := _read(file, place, 16)) >= 8:
        length, name = struct.unpack(">I4s", head[:8])
        inner = 8
        if length == 1 and len(head) == 16:
            (length,), inner = struct.unpack(">Q", head[8:]), 16
        if not place and name != b"ftyp":
            return None
        if name == b"moov":
            return _read(file, place + inner, length - inner) if inner <= length < _LARGEST else None
        if length < inner:
            return None
        place += length
    return None


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if length < 8:
            return
        yield name, data[place + 8 : place + length]
        place += length


def _opened(data: bytes) -> _Boxes:
    """The boxes of a track, and those that lie in its boxes."""
    found: _Boxes = {}
    for name, content in _boxes(data):
        found |= _opened(content) if name in (b"mdia", b"minf", b"stbl", b"edts") else {name: content}
    return found


def _contradiction(boxes: _Boxes, header: bytes) -> str:
    """What is wrong with the tables of a track; nothing where they agree."""
    _, count = struct.unpack_from(">II", boxes[b"stsz"], 4)
    if not count or b"stts" not in boxes:  # the times are in fragments
        return ""
    scale, duration = _times(boxes[b"mdhd"])
    steps_and_counts = _runs(boxes[b"stts"])
    if steps_and_counts[:, 0].sum() != count:
        return f"{steps_and_counts[:, 0].sum()} times of {count} pictures"
    step_N = np.repeat(steps_and_counts[:, 1], steps_and_counts[:, 0])
    offset_N = np.zeros(count, np.int64)
    if b"ctts" in boxes:
        runs = _runs(boxes[b"ctts"])
        if runs[:, 0].sum() != count:
            return f"{runs[:, 0].sum()} delays of {count} pictures"
        # Of the first version they have no sign, which many use all the same.
        offset_N = np.repeat(runs[:, 1].astype(np.uint32).astype(np.int32), runs[:, 0]).astype(np.int64)
    return (
        _disorder(step_N, offset_N)
        or _wrong_length(step_N, scale, duration, boxes, header)
        or _wrong_size(boxes[b"tkhd"], boxes[b"stsd"])
    )


def _runs(table: bytes) -> np.ndarray:
    """Counts and what is the same for so many, int64 [runs, 2]."""
    (rows,) = struct.unpack_from(">I", table, 4)
    if len(table) < 8 + 8 * rows:
        raise ValueError(f"{rows} rows are announced, there is room for {(len(table) - 8) // 8}")
    return np.frombuffer(table, ">u4", 2 * rows, 8).reshape(rows, 2).astype(np.int64)


def _times(header: bytes) -> tuple[int, int]:
    """Units a second, and a length in these."""
    return struct.unpack_from(">IQ" if header[0] else ">II", header, 20 if header[0] else 12)


def _disorder(step_N: np.ndarray, offset_N: np.ndarray) -> str:
    """Why pictures that are decoded at these steps cannot be displayed with these delays."""
    if (step_N[:-1] <= 0).any():  # no times of their own, which some recorders write
        return ""
    shown_N = np.cumsum(step_N) - step_N + offset_N
    order_N = np.argsort(shown_N, kind="stable")
    if (np.diff(shown_N[order_N]) == 0).any():
        return "two pictures are displayed at the same time"
    if np.abs(order_N - np.arange(len(order_N))).max() > _MOST_REORDERED:
        return f"a picture is displayed more than {_MOST_REORDERED} pictures from where it is decoded"
    step = int(step_N[0])
    if (step_N[:-1] == step).all() and ((shown_N - shown_N[0]) % step).any():
        return "a picture is displayed between the steps at which all others are"
    return ""


def _wrong_length(step_N: np.ndarray, scale: int, duration: int, boxes: _Boxes, header: bytes) -> str:
    """Why pictures that last so long do not fit the lengths that are told elsewhere."""
    if not scale or not duration or not header:
        return ""
    slack, total = 2 * int(step_N.max(initial=1)), int(step_N.sum())
    if abs(total - duration) > slack + scale // 2:
        return f"pictures of {total / scale:.2f} s in a track of {duration / scale:.2f} s"
    units, _ = _times(header)
    for start, length in _edits(boxes.get(b"elst", b"")):
        if start >= 0 and units and start + length * scale / units > total + slack + scale / units:
            return f"{length / units:.2f} s from {start / scale:.2f} s on are displayed of {total / scale:.2f} s"
    return ""


def _wrong_size(header: bytes, entry: bytes) -> str:
    """Why pictures that are stored at one size cannot be displayed at another."""
    width, height = (side / 65536 for side in struct.unpack_from(">II", header, 88 if header[0] else 76))
    columns, rows = struct.unpack_from(">HH", entry, 40)
    if not min(width, height, columns, rows) or b"pasp" in entry:
        return ""
    pixel = width / columns / (height / rows)
    if (np.abs(_PIXELS / pixel - 1) < 0.02).any():
        return ""
    return f"{columns} x {rows} pixels are displayed at {width:.0f} x {height:.0f}, and nothing says why"


def _edits(table: bytes) -> Iterator[tuple[int, int]]:
    """From where on how much is displayed: in units of the track, and of the movie."""
    if not table:
        return
    (rows,), form = struct.unpack_from(">I", table, 4), ">Qq4x" if table[0] else ">Ii4x"
    for row in range(rows):
        length, start = struct.unpack_from(form, table, 8 + row * struct.calcsize(form))
        yield start, length
