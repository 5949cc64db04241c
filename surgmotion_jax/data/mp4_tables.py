"""Whether the tables of an mp4 agree with one another about when each picture is displayed, and at what size.

No checksum protects them, and one wrong byte moves every later picture to another time. Letters: N pictures.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from surgmotion_jax.data.following import outermost_boxes
from surgmotion_jax.data.ledger import MOST_REORDERED
from surgmotion_jax.data.media import UnreadableVideo

_LARGEST = 1 << 30
"""Bytes of tables beyond which a header is damaged: an hour has some two million."""

_DEEPEST = 4
"""Boxes within boxes."""

_UNKNOWN, _NORMAL = ((1 << 32) - 1, (1 << 64) - 1), 1 << 16
"""Lengths that were not known when they were written, and the rate at which time goes on as it was recorded."""

_PIXELS = np.divide(*np.transpose([
    (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33), (18, 11), (15, 11),
    (64, 33), (160, 99), (4, 3), (3, 2), (2, 1), (1, 2), (8, 9), (16, 15), (32, 27), (64, 45),
]))  # fmt: skip
"""Widths of pixels over their heights that are in use: those of H.264 (table E-1) and others."""

_Boxes = dict[bytes, bytes]


def check_tables(path: str) -> None:
    """Raises UnreadableVideo where the tables of an mp4 contradict one another; says nothing of other files."""
    with open(path, "rb") as file:
        length = os.fstat(file.fileno()).st_size
        movie = _movie(file, length)
    if movie is None:
        return
    inside = dict(_boxes(movie))
    for name, content in _boxes(movie):
        if name != b"trak":
            continue
        try:
            track = _opened(content)
            wrong = _contradiction(track, inside, length) if _has_pictures(track) else ""
        except KeyError as error:
            wrong = f"there is no {error.args[0].decode()}"
        except (struct.error, ValueError) as error:
            wrong = f"one cannot be read ({error})"
        if wrong:
            raise UnreadableVideo(path, f"its tables contradict one another: {wrong}; copy it again, or leave it out")


def _has_pictures(track: _Boxes) -> bool:
    """By its media header, or by its kind: one of them may be damaged."""
    return b"stsz" in track and (b"vmhd" in track or track.get(b"hdlr", b"")[8:12] == b"vide")


def _movie(file: BinaryIO, size: int) -> bytes | None:
    """The content of the box that holds all tables, in a file of so many bytes."""
    for box in outermost_boxes(file, size):
        if not box.place and box.name != b"ftyp":
            return None
        if box.name == b"moov" and box.head <= box.length < _LARGEST:
            file.seek(box.place + box.head)
            return file.read(box.length - box.head)
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        if length < 8:
            return
        yield name, data[place + 8 : place + length]
        place += length


def _opened(data: bytes, depth: int = 0) -> _Boxes:
    """The boxes of a track, and those that lie in its boxes; of two of one name the outer, and the first."""
    found: _Boxes = {}
    for name, content in _boxes(data):
        inner = name in (b"mdia", b"minf", b"stbl", b"edts") and depth < _DEEPEST
        for one, what in (_opened(content, depth + 1) if inner else {name: content}).items():
            found.setdefault(one, what)
    return found


def _contradiction(track: _Boxes, movie: _Boxes, length: int) -> str:
    """What is wrong with the tables of a track in a file of so many bytes; nothing where they agree."""
    _, count = struct.unpack_from(">II", track[b"stsz"], 4)
    if not count:  # the pictures are in fragments
        return ""
    if count > length:
        return f"{count} pictures in a file of {length} bytes"
    steps = _runs(track[b"stts"])
    if steps[:, 0].sum() != count:
        return f"{steps[:, 0].sum()} times of {count} pictures"
    step_N = np.repeat(steps[:, 1], steps[:, 0])
    offset_N = np.zeros(count, np.int64)
    delays = _runs(track[b"ctts"]) if b"ctts" in track else np.empty((0, 2), np.int64)
    if len(delays):
        if delays[:, 0].sum() != count:
            return f"{delays[:, 0].sum()} delays of {count} pictures"
        # Of the first version they have no sign, which many use all the same.
        offset_N = np.repeat(delays[:, 1].astype(np.uint32).astype(np.int32), delays[:, 0]).astype(np.int64)
    return (
        _disorder(step_N, offset_N)
        or _wrong_length(step_N, offset_N, track, movie)
        or _wrong_size(track[b"tkhd"], track[b"stsd"])
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
    if np.abs(order_N - np.arange(len(order_N))).max() > MOST_REORDERED:
        return f"a picture is displayed more than {MOST_REORDERED} pictures from where it is decoded"
    step = int(step_N[0])
    if (step_N[:-1] == step).all() and ((shown_N - shown_N[0]) % step).any():
        return "a picture is displayed between the steps at which all others are"
    return ""


def _wrong_length(step_N: np.ndarray, offset_N: np.ndarray, track: _Boxes, movie: _Boxes) -> str:
    """Why pictures that last so long do not fit the lengths that are told elsewhere."""
    scale, duration = _times(track[b"mdhd"])
    units, _ = _times(movie[b"mvhd"])
    if not scale or not units or b"mvex" in movie:  # more pictures are in fragments
        return ""
    slack, total = 2 * int(step_N.max()), int(step_N.sum())
    if duration not in (0, *_UNKNOWN) and abs(total - duration) > slack + scale // 2:
        return f"pictures of {total / scale:.2f} s in a track of {duration / scale:.2f} s"
    last = int((np.cumsum(step_N) + offset_N).max())
    for start, length, rate in _edits(track.get(b"elst", b"")):
        if start >= 0 and rate == _NORMAL and start + length * scale / units > last + slack + scale / units:
            return f"{length / units:.2f} s from {start / scale:.2f} s on are displayed of {last / scale:.2f} s"
    return ""


def _edits(table: bytes) -> Iterator[tuple[int, int, int]]:
    """From where on how much is displayed, in units of the track and of the movie, and how fast."""
    if not table:
        return
    (rows,), form = struct.unpack_from(">I", table, 4), ">QqI" if table[0] else ">IiI"
    for row in range(min(rows, len(table) // struct.calcsize(form))):
        length, start, rate = struct.unpack_from(form, table, 8 + row * struct.calcsize(form))
        yield start, length, rate


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
