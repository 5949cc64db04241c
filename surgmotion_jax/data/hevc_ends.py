"""Where the data of HEVC pictures end, and where their decoding does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple, cast

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.second_decoder import new_head, second_decoder
from surgmotion_jax.data.units import Framing


class HevcEnds:
    """Decodes pictures alone, with other data at the end and behind it.

    What a picture is predicted from is missing, and grey: how data are read does not depend on it.
    """

    sure = True
    """Whether all that is looked at was looked at."""

    def __init__(self, head: bytes, most_pixels: int) -> None:
        self._most = most_pixels
        self._begin(head)

    def _begin(self, head: bytes) -> None:
        self._head, self._framing = head, Framing.of("hevc", head)
        self._described: dict[int, list[bytes]] = {}  # units that describe pictures, by kind, as packets brought them
        # A decoder that has seen a keyframe refuses the pictures that are displayed before it.
        self._leading, self._others = self._fresh(), self._fresh()

    def _fresh(self) -> VideoCodecContext:
        return second_decoder("hevc", self._head, self._most, flags="+output_corrupt")

    def restart(self) -> None:
        """Nothing is kept from one packet to the next but what describes them."""

    def rest(self) -> Iterator[int]:
        """Nothing is found when no more packets come."""
        return iter(())

    def elsewhere(self, number: int, packet: Packet[VideoStream]) -> Iterator[int]:
        """The number of a packet that is found to end elsewhere."""
        if (head := new_head(packet)) is not None:
            self._begin(head)
        data = bytes(packet)
        units = [data[start:end] for start, end in self._framing.units(data) if start < end]
        slices = sum(map(_is_slice, units))
        whole = self._framing.is_one_picture(data, slices, sum(unit[0] >> 1 == _BORDER for unit in units))
        if not whole or (slices <= _MOST_SLICES and self._ends_elsewhere(self._with_description(data, units))):
            yield number

    def _with_description(self, data: bytes, units: list[bytes]) -> bytes:
        """A packet with what describes its picture, if an earlier one brought it."""
        found: dict[int, list[bytes]] = {}
        for unit in units:
            if unit[0] >> 1 in _DESCRIPTIONS:
                found.setdefault(unit[0] >> 1, []).append(unit)
        self._described |= found
        known = [unit for kind in _DESCRIPTIONS for unit in self._described.get(kind, ())]
        return data if found else b"".join(map(self._framing.framed, known)) + data

    def _ends_elsewhere(self, data: bytes) -> bool:
        once = _decoded(self._fresh(), data)  # whose buffers are 0 where nothing is decoded
        if once is None:
            return False
        slices = [(start, end) for start, end in self._framing.units(data) if _is_slice(data[start:end])]
        again = self._leading if data[slices[0][0]] >> 1 in _LEADING else self._others

        def shows(start: int, end: int, unit: bytes) -> bool:
            """Whether the picture is the same with this unit in the place of another."""
            picture = _decoded(again, self._framing.with_unit(data, start, end, unit))
            return picture is not None and all(map(np.array_equal, picture.planes, once.planes))

        with suppress(IndexError):  # a slice that nothing can be added to
            return _is_unfinished(once) or any(
                _reads_another_end(_without_padding(data[start:end]), partial(shows, start, end))
                for start, end in slices
            )
        return False


_MOST_SLICES = 32
"""Slices of a picture of which each is looked at, for as many times as long."""

_DESCRIPTIONS = (32, 33, 34)
_FIRST_OTHER, _LEADING = 32, (6, 7, 8, 9)
"""Kinds of HEVC units: what describes pictures, the first that is no slice, and slices of pictures that are displayed
before a keyframe."""

_BORDER = 35
"""The kind of the unit that begins a picture, where pictures are so parted."""


def _is_slice(unit: bytes) -> bool:
    """Whether a unit is a slice of the first layer, which is all that is decoded."""
    return len(unit) > 1 and unit[0] >> 1 < _FIRST_OTHER and not unit[0] & 1 and not unit[1] >> 3


def _reads_another_end(unit: bytes, shows: Callable[[bytes], bool]) -> bool:
    """Whether what follows a slice is read, or what it ends with is not. `shows` says that another looks the same."""
    if not shows(unit + _OTHER):
        return True
    for count, mask in _CHANGES:
        if count > 3 * len(unit) // 4:  # a picture that shows nothing of most of its data
            return False
        if not shows(_changed(unit, count, mask)):
            return False
    return True


_OTHER = bytes(range(17, 81))
"""What is put behind a slice: none of these bytes looks like the beginning of a unit."""

_CHANGES = tuple(zip((48, 48, 48, 48, 32, 32, 32, 16), (165, 90, 60, 195, 105, 150, 51, 204), strict=True))
"""How many of the last bytes of a slice are changed, and how, one after the other until it shows: mostly at once."""


def _changed(unit: bytes, count: int, mask: int) -> bytes:
    """A unit with other bytes at its end, but for the last, which ends it."""
    last = (byte ^ mask for byte in unit[-1 - count : -1])
    return unit[: -1 - count] + bytes(byte if byte > 3 else byte + 4 for byte in last) + unit[-1:]


def _without_padding(unit: bytes) -> bytes:
    """A slice without what may follow it: zeros, kept apart by threes."""
    while unit.endswith((b"\0", b"\0\0\3")):
        unit = unit.removesuffix(b"\3").rstrip(b"\0")
    return unit


class _Picture(NamedTuple):
    planes: list[np.ndarray]
    coloured: bool  # whether the second and third plane are differences of colour


def _decoded(decoder: VideoCodecContext, data: bytes) -> _Picture | None:
    """The picture of a packet that is decoded alone; None where there is none."""
    frames: list[VideoFrame] = []
    with suppress(av.FFmpegError):
        frames += decoder.decode(cast("Packet[VideoStream]", Packet(data)))
    with suppress(av.FFmpegError):
        frames += decoder.decode(None)
    decoder.flush_buffers()
    if not frames:
        return None
    form = frames[0].format
    size = -(-form.components[0].bits // 8)
    planes = [
        np.frombuffer(memoryview(plane), np.uint8)
        .reshape(plane.height, plane.line_size)[:, : plane.width * size]
        .copy()
        .view(np.uint8 if size == 1 else np.uint16)
        for plane in frames[0].planes
    ]
    return _Picture(planes, form.name.startswith("yuv") and len(planes) > 2)


def _is_unfinished(picture: _Picture) -> bool:
    """Whether a picture has a part that nothing was written to: both differences of colour are 0 there."""
    if not picture.coloured:
        return False
    either = picture.planes[1][::4, ::4] | picture.planes[2][::4, ::4]
    return not (either[:-1, :-1] | either[1:, :-1] | either[:-1, 1:] | either[1:, 1:]).all()
