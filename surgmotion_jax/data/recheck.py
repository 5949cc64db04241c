"""Finds damage that a decoder overlooks: a picture whose data do not end where the picture does.

Arithmetic coding turns any bytes into some picture. What is damaged in the middle decodes to nonsense from there on,
and nonsense ends too early or too late. Where FFmpeg's decoder does not look, each packet is decoded again in a way
that shows it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress

from av.packet import Packet
from av.video.stream import VideoStream

from surgmotion_jax.data.h264_ends import MANY_BLOCKS, H264Ends
from surgmotion_jax.data.hevc_ends import HevcEnds
from surgmotion_jax.data.units import PICTURE, described, uses_arithmetic_coding

_REMEMBERED = 256
"""Files of which it is remembered what was found sound: some 100 bytes for each keyframe."""

_MOST_PASSED = 1000
"""Packets that are kept because what follows them may have to be judged."""


def overlooks_damage(stream: VideoStream) -> bool:
    """Whether FFmpeg's decoder of a stream takes damage for pictures."""
    name = stream.codec_context.name
    return name == "hevc" or (name == "h264" and _is_small(stream) and _is_arithmetic(stream))


def _is_small(stream: VideoStream) -> bool:
    return -(-stream.width // 16) * -(-stream.height // 16) < MANY_BLOCKS


def _is_arithmetic(stream: VideoStream) -> bool:
    head = stream.codec_context.extradata or b""
    units = [head[start:end] for start, end, _ in described(head)]
    with suppress(IndexError):  # damaged
        return any(uses_arithmetic_coding(unit) for unit in units if unit and unit[0] & 31 == PICTURE)
    return False


class Recheck:
    """Judges the packets of a stream in the order in which they are decoded, from a keyframe on.

    What was found sound once is not decoded twice again in this process.
    """

    def __init__(self, path: str, stream: VideoStream, pixels: int) -> None:
        """Of a file whose pictures have so many `pixels`."""
        self._sound = _sound_stretches(path)
        ends = HevcEnds if stream.codec_context.name == "hevc" else H264Ends
        # A cap against damaged headers. It counts padded rows, and those that are added.
        self._ends: HevcEnds | H264Ends = ends(
            stream.codec_context.extradata or b"", 2 * (pixels + 256 * MANY_BLOCKS) + 65_536
        )
        self._begun: _Place | None = None  # that of the last keyframe
        self._count = 0  # of packets from there on
        self._passed: list[tuple[int, Packet[VideoStream]]] = []  # the last of them that were known to be sound
        self._damaged = False

    def damaged(self, packet: Packet[VideoStream], number: int) -> list[int]:
        """The numbers of packets up to this one whose data are found not to end where their picture does.

        After the first that is found nothing more is said up to the next keyframe.
        """
        if packet.is_keyframe:
            if self._damaged or self._passed:
                self._ends.restart()
            self._begun, self._count, self._damaged, self._passed = (packet.pts, packet.pos), 0, False, []
        if self._begun is None or self._damaged:
            return []
        self._count += 1
        self._passed.append((number, packet))
        if self._count <= self._sound.get(self._begun, 0) and len(self._passed) < _MOST_PASSED:
            return []
        return self._judged(self._begun)

    def rest(self) -> list[int]:
        """What is found when no more packets come."""
        return list(self._ends.rest()) if self._begun and not (self._damaged or self._passed) else []

    def _judged(self, begun: _Place) -> list[int]:
        found = [one for passed in self._passed for one in self._ends.elsewhere(*passed)]
        self._passed = []
        self._damaged = bool(found)
        if not found and self._ends.sure:
            self._sound[begun] = max(self._count, self._sound.get(begun, 0))
        return found


_Place = tuple[int | None, int | None]
"""A time stamp and a byte."""

_stretches: OrderedDict[tuple[str, int, int], dict[_Place, int]] = OrderedDict()
_lock = threading.Lock()


def _sound_stretches(path: str) -> dict[_Place, int]:
    """Of a file as it is now: for each keyframe how many packets from it on were found sound."""
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
    with _lock:
        found = _stretches.setdefault(key, {})
        _stretches.move_to_end(key)
        while len(_stretches) > _REMEMBERED:
            _stretches.popitem(last=False)
    return found
