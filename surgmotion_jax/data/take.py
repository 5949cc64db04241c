"""Finds the takes of a file: where time stamps start over or jump, and where the picture size changes.

Only streams that can be joined end to end are looked through, packet by packet; other containers have one table of
contents for one recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from surgmotion_jax.data.container import JOINABLE, JUMP_S, open_video, packets_of, time_base
from surgmotion_jax.data.look import Look
from surgmotion_jax.data.media import Limits, Take
from surgmotion_jax.data.picture import look_of

_KEYFRAMES_EVERY_S = 5.0

_TAIL = 8
"""Packets before a border, of which some are cut in the middle."""


@dataclass
class _Part:
    """A take as its packets are counted."""

    origin: int
    look: Look
    reason: str
    keyframes: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0  # tick
    damaged: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=_TAIL))  # (tick, whether) of the last

    def count(self, tick: int, packet: Packet[VideoStream]) -> None:
        """Adds a packet whose frame is on display from `tick`."""
        self.end = max(self.end, tick + (packet.duration or 0))
        self.damaged.append((tick, packet.is_corrupt))

    @property
    def last(self) -> int:
        """Tick of its end, before the frames that the cut damaged."""
        return min((tick - 2 for tick, corrupt in self.damaged if corrupt), default=self.end)


@dataclass(frozen=True)
class _Before:
    """What was known before the last packet, and whether its stamp moved away from the one before it."""

    moved: bool = False
    reason: str = ""
    parts: int = 0


def find_takes(path: str, look: Look, limits: Limits) -> tuple[Take, ...]:
    """The takes of a joinable file, in order; none where it is all one."""
    container, stream = open_video(path, limits, look.strict)
    with container:
        if container.format.name not in JOINABLE:
            return ()
        base = time_base(stream)
        parts = _parts(path, container, stream, look, limits)
    return _laid_out(parts, base) if len(parts) > 1 else ()


def _parts(path: str, container: InputContainer, stream: VideoStream, look: Look, limits: Limits) -> list[_Part]:
    """Parts begin at keyframes: what lies between a border and the next keyframe shows nothing whole."""
    base, parts, last, position = time_base(stream), list[_Part](), None, 0
    reason, head, earlier = "its beginning", b"", None
    before = _Before()
    for packet, extradata in _packets(container, stream):
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            continue
        # Some formats note it of one packet in several.
        position = position if packet.pos is None else packet.pos
        moved = "" if last is None else _moved(float((stamp - last) * base))
        if (moved or before.moved) and earlier is not None and not _moved(float((stamp - earlier) * base)):
            # This one goes on from the one before the last, whose stamp is damaged and began nothing.
            moved, reason = "", before.reason
            del parts[before.parts :]
        before, reason = _Before(bool(moved), reason, len(parts)), moved or reason
        earlier, last = last, stamp
        shown = packet.pts if packet.pts is not None else stamp
        if packet.is_keyframe:
            if extradata != head and parts and not reason:
                reason = _new_size(path, position, parts[-1].look, limits)
            head = extradata
            if reason:
                seen = _look_at(path, position, limits, look.strict) if parts else look
                parts.append(_Part(shown, seen or parts[-1].look, reason, [(shown, position)]))
                reason = ""
            elif float((shown - parts[-1].keyframes[-1][0]) * base) >= _KEYFRAMES_EVERY_S:
                parts[-1].keyframes.append((shown, position))
        if parts and not reason:
            parts[-1].count(shown, packet)
    return parts


def _moved(step_s: float) -> str:
    if step_s < 0:
        return "time stamps start over"
    return f"time stamps jump ahead by {step_s:.0f} s" if step_s > JUMP_S else ""


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[tuple[Packet[VideoStream], bytes]]:
    """Packets, each keyframe with the header that describes its pictures (empty where the codec has none)."""
    try:
        extract: BitStreamFilterContext | None = BitStreamFilterContext("extract_extradata", stream)
    except (ValueError, av.FFmpegError):
        extract = None
    for packet in packets_of(container, stream):
        if extract is None or not packet.is_keyframe:
            yield packet, b""
            continue
        for described in extract.filter(packet):
            told = described.has_sidedata("new_extradata")
            yield described, bytes(described.get_sidedata("new_extradata")) if told else b""


def _new_size(path: str, position: int, before: Look, limits: Limits) -> str:
    """Why the keyframe at a byte begins a take, or nothing: a header may change without the picture's size."""
    after = _look_at(path, position, limits, before.strict)
    if after is None or (after.size, after.rows, after.columns) == (before.size, before.rows, before.columns):
        return ""
    return f"the picture size changes to {after.columns} x {after.rows}"


def _look_at(path: str, position: int, limits: Limits, strict: bool) -> Look | None:
    """The look of the first frame after a byte; None where none can be decoded."""
    container, stream = open_video(path, limits, strict)
    with container:
        container.seek(position, unsupported_byte_offset=True)
        with suppress(av.InvalidDataError):
            for frame in container.decode(stream):
                limits.check_pixels(path, frame.width, frame.height)
                return look_of(path, stream, frame, strict, frame.interlaced_frame)
    return None


def _laid_out(parts: list[_Part], base: Fraction) -> tuple[Take, ...]:
    """Takes one after another in time."""
    takes: list[Take] = []
    start_s = 0.0
    for number, part in enumerate(parts):
        following = parts[number + 1].keyframes[0][1] if number + 1 < len(parts) else None
        last = part.end if following is None else part.last
        end_s = start_s + float((last - part.origin) * base)
        takes.append(Take(start_s, end_s, part.origin, part.look, part.reason, tuple(part.keyframes), following))
        start_s = end_s
    return tuple(takes)
