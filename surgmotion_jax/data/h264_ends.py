"""Where the data of H.264 pictures end, and where their decoding does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.arrival import Arrival
from surgmotion_jax.data.damage import Number
from surgmotion_jax.data.second_decoder import new_head, second_decoder
from surgmotion_jax.data.units import ALONE, SEQUENCE, Framing, Taller, described, taller

MANY_BLOCKS = 768
"""Blocks of a picture from which on nonsense mostly meets an impossible end within it, which FFmpeg notices."""

_BORDER = 9
"""The kind of the unit that begins a picture, where pictures are so parted."""


class H264Ends:
    """Decodes pictures as if they had more rows.

    Each slice ends with a flag behind its last block, at which a decoder of larger pictures stops as well. Nonsense has
    no flag there and goes on into rows that no picture has, or to the end of its data, or it has one too early.
    """

    def __init__(self, head: bytes, most_pixels: int) -> None:
        self._most = most_pixels
        self._begin(head)

    def _begin(self, head: bytes) -> None:
        self._framing = Framing.of("h264", head)
        self._sequence: Taller | None = None  # what pictures are, where that is known
        self._head = self._with_more_rows(head, list(described(head)))
        self.restart()

    def restart(self) -> None:
        """Forgets what came before: the next packet is a keyframe."""
        # A picture that ends early is none of its errors.
        self._decoder = second_decoder("h264", self._head, self._most, err_detect="aggressive+explode", enable_er="0")
        self._decoder.copy_opaque = True
        self._arrival = Arrival(jumped=True)
        self._marks = _Marks()
        self._alone: bool | None = None  # whether it begins with a picture behind which all begins anew
        self.sure = True  # whether all that is looked at was looked at

    def elsewhere(self, number: int, packet: Packet[VideoStream]) -> Iterator[int]:
        """The numbers of packets that are found to end elsewhere: this one, or an earlier one."""
        if (head := new_head(packet)) is not None:
            self._begin(head)
        data = bytes(packet)
        places = [(start, end, self._framing) for start, end in self._framing.units(data) if start < end]
        kinds = [data[start] & 31 for start, *_ in places]
        borders = 0 if self._sequence and self._sequence.fields else kinds.count(_BORDER)
        if not self._framing.is_one_picture(data, sum(1 <= kind <= ALONE for kind in kinds), borders):
            yield number
            return
        if self._alone is None:
            self._alone = ALONE in kinds
        sent = cast("Packet[VideoStream]", Packet(self._with_more_rows(data, places)))
        sent.pts, sent.dts, sent.opaque = packet.pts, packet.dts, Number(number)
        excused = self._arrival.excuses(packet)
        try:
            frames = self._decoder.decode(sent)
        except av.InvalidDataError:
            self.sure = self.sure and not excused
            if not excused:
                yield number
            return
        yield from self._marked(frames)

    def rest(self) -> Iterator[int]:
        """What is found when no more packets come."""
        with suppress(av.FFmpegError):
            yield from self._marked(self._decoder.decode(None))

    def _marked(self, frames: list[VideoFrame]) -> Iterator[int]:
        # Where pictures are missing at the beginning, the decoder paints others in their place.
        sequence = self._sequence
        if not self._alone or sequence is None or not sequence.plain:
            self.sure = False
            return
        for frame in frames:
            another = self._marks.show_another_end(frame, sequence.rows, sequence.columns)
            if another and isinstance(frame.opaque, int):
                yield frame.opaque

    def _with_more_rows(self, data: bytes, places: list[tuple[int, int, Framing]]) -> bytes:
        """Data in which what describes sequences gives their pictures more rows."""
        for start, end, framing in reversed(places):
            unit = data[start:end]
            if unit and unit[0] & 31 == SEQUENCE:
                with suppress(IndexError):  # damaged
                    sequence = taller(unit, MANY_BLOCKS)
                    data = framing.with_unit(data, start, end, sequence.unit)
                    self._sequence = sequence
        return data


class _Marks:
    """Marks that are left in the buffers of a decoder, which show later what was written there and what was not.

    Buffers are used again and again. A mark changes pictures that others are predicted from, but not how their data are
    read. Marks differ, so that one that is copied from another picture shows, too.
    """

    def __init__(self) -> None:
        self._last: dict[int, np.uint8] = {}  # by the address of a buffer
        self._count = 0

    def show_another_end(self, frame: VideoFrame, rows: int, columns: int) -> bool:
        """Whether a picture goes on below its last row, or does not reach its last block. Marks it for next time."""
        luma = frame.planes[0]
        lines = np.frombuffer(memoryview(luma), np.uint8).reshape(-1, luma.line_size)
        below, last = lines[rows : rows + 16 : 5], lines[rows - 16 : rows : 5, columns - 16 : columns]
        mark = self._last.get(luma.buffer_ptr)
        written = bool((below != (0 if mark is None else mark)).any())
        left = mark is not None and bool((last[:, ::2] == mark).all() and (last[:, 1::2] == 255 - mark).all())
        self._count += 1
        mark = np.uint8(self._count % 255 + 1)
        below[:] = mark
        last[:, ::2], last[:, 1::2] = mark, 255 - mark
        self._last[luma.buffer_ptr] = mark
        return written or left
