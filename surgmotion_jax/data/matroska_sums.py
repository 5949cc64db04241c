"""The checksums in Matroska files: whether the cluster that a packet lies in is as it was recorded.

A cluster holds a few seconds of a recording. Where its first element is a CRC-32, as FFmpeg and what is built on it
write, one wrong bit in it is found, also where a decoder would notice nothing (RFC 8794, sections 5 and 11.3.1).
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

_HEADER, _SEGMENT, _CLUSTER = (bytes.fromhex(name) for name in ("1a45dfa3", "18538067", "1f43b675"))
_BESIDE = frozenset(
    bytes.fromhex(name)
    for name in ("114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1941a469", "1043a770", "1254c367", "ec", "bf")
)
"""What stands beside clusters: seek head, info, tracks, cues, attachments, chapters, tags, nothing, a sum."""

_SUM = bytes.fromhex("bf84")  # the head of a CRC-32, which has four bytes
_PIECE = 1 << 20  # bytes that are read at once


class _Element(NamedTuple):
    name: bytes
    data: int  # the byte at which its content begins
    end: int | None  # the byte behind it; None where its writer did not know


class ClusterSums:
    """Judges the clusters of a file as their packets come, each once."""

    def __init__(self, file: BinaryIO, stream: VideoStream) -> None:
        self._file, self._stream = file, stream
        self._length = os.fstat(file.fileno()).st_size
        self._start = self._end = 0  # of the cluster that was judged last
        self._wrong = False

    @classmethod
    @contextmanager
    def of(cls, container: InputContainer, stream: VideoStream) -> Iterator[ClusterSums | None]:
        """Those of an open file; None where it is no Matroska, or its first cluster has no sum."""
        if not container.format.name.startswith("matroska"):
            yield None
            return
        with open(container.name, "rb", buffering=0) as file:
            sums = cls(file, stream)
            yield sums if sums._are_there() else None

    def misses(self, position: int | None) -> bool:
        """Whether the packet at a byte `position` lies in a cluster that is not as it was recorded."""
        if position is None:
            return False
        if not self._start <= position < self._end:
            self._start, self._end, self._wrong = self._judged(position)
        return self._wrong

    def _are_there(self) -> bool:
        here = self._first()
        while (element := self._element(here)) and element.name in _BESIDE and element.end:
            here = element.end
        return element is None or element.name != _CLUSTER or self._read(element.data, len(_SUM)) == _SUM

    def _judged(self, position: int) -> tuple[int, int, bool]:
        """Beginning and end of the cluster around a position, and whether it is wrong."""
        here = max(self._end if self._end <= position else 0, self._known_before(position))
        while True:
            element = self._element(here)
            if element is None or element.name not in (*_BESIDE, _CLUSTER):
                following = self._next_cluster(here + 1, position)
                if following is None:  # the head of its cluster is damaged
                    return here, position + 1, True
                here = following
            elif element.end is None:  # such a cluster has no sum, and hides where the next one begins
                return here, self._length, False
            elif position < element.end:
                return here, element.end, self._is_wrong(element.data, element.end)
            else:
                here = element.end

    def _is_wrong(self, data: int, end: int) -> bool:
        if self._read(data, len(_SUM)) != _SUM:
            return False
        told, found = self._read(data + 2, 4), 0
        for start in range(data + 6, end, _PIECE):
            found = zlib.crc32(self._read(start, min(_PIECE, end - start)), found)
        return end > self._length or int.from_bytes(told, "little") != found

    def _known_before(self, position: int) -> int:
        """Where the last cluster begins that the table of keyframes has before a position; else the first element."""
        entries = self._stream.index_entries
        place = bisect_right(range(len(entries)), position, key=lambda number: entries[number].pos)
        start = entries[place - 1].pos if place else 0
        # A damaged table may name any place.
        return start if start <= position and self._read(start, len(_CLUSTER)) == _CLUSTER else self._first()

    def _first(self) -> int:
        """Where the first element of the segment begins; 0 where the beginning of the file is damaged."""
        header = self._element(0)
        segment = self._element(header.end) if header and header.name == _HEADER and header.end else None
        return segment.data if segment and segment.name == _SEGMENT else 0

    def _next_cluster(self, start: int, stop: int) -> int | None:
        """The first byte from `start` to before `stop` at which a cluster may begin."""
        for begin in range(start, stop, _PIECE):
            found = self._read(begin, min(_PIECE, stop - begin) + len(_CLUSTER) - 1).find(_CLUSTER)
            if found >= 0:
                return begin + found
        return None

    def _element(self, start: int) -> _Element | None:
        """The element that begins at a byte; None where none can."""
        head = self._read(start, 12)  # at most four bytes of its name and eight of its length
        name = _number_of_bytes(head)
        size = _number_of_bytes(head[name:])
        if not 0 < name <= 4 or not 0 < size <= len(head) - name:
            return None
        length = int.from_bytes(head[name : name + size]) & ((1 << 7 * size) - 1)
        unknown = length == (1 << 7 * size) - 1
        data = start + name + size
        return _Element(head[:name], data, None if unknown else data + length)

    def _read(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        return self._file.read(count)


def _number_of_bytes(head: bytes) -> int:
    """Of the number of variable length that begins here; 0 where none does."""
    return 9 - head[0].bit_length() if head and head[0] else 0
