"""An open video container: its one video stream, and that stream's frames stamped with their ticks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.arrival import Arrival
from surgmotion_jax.data.avi_index import AviIndex
from surgmotion_jax.data.damage import Damage
from surgmotion_jax.data.ledger import Ledger
from surgmotion_jax.data.matroska_sums import ClusterSums
from surgmotion_jax.data.media import Limits, UnreadableVideo
from surgmotion_jax.data.recheck import Recheck, overlooks_damage

JOINABLE = ("mpegts", "mpeg")
"""FFmpeg's names of the formats whose files stay readable when they are joined by `cat`."""

JUMP_S = 10.0
"""Time stamps further apart than this belong to two recordings, or one of them is damaged."""

_TABLED = ("mov", "matroska")
"""Formats that say where each frame is, by the beginning of FFmpeg's name, and whose packets are never marked."""

_ALL_SHOWN = ("h264", "hevc")
"""Codecs in which each packet becomes a frame; others may say that a picture stays as it is."""

_MOST_LOST = 100_000
"""Packets of a file that may be undecodable before it is given up: an hour of video."""


class Shown(NamedTuple):
    """A decoded frame, from when it is on display, and whether it is what was recorded."""

    tick: int
    frame: VideoFrame
    sound: bool
    missing: bool = False  # whether it stands for frames that are not there; its picture is that of the next one


@dataclass(frozen=True)
class Passage:
    """The part of a file to decode, and the picture size, (columns, rows), that it must keep."""

    size: tuple[int, int]
    first: int | None = None  # tick of the keyframe that it begins with, where others may be decoded before it
    end: int | None = None  # byte at which the part after it begins; None for the end of the file
    jumped: bool = False  # whether it begins elsewhere than its file or take
    recheck: bool = False  # whether what decoders overlook is looked for


@contextmanager
def reported(path: str) -> Iterator[None]:
    """Turns what FFmpeg raises into UnreadableVideo."""
    try:
        yield
    except UnreadableVideo:
        raise
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"cannot be decoded: {error}") from error


def open_video(path: str, limits: Limits, strict: bool = True) -> tuple[InputContainer, VideoStream]:
    """The container and its first real video stream, set to decode in one thread under the caps.

    A `strict` decoder takes for damage what no careful encoder writes, such as bits left over at the end of a slice.
    A stream must not be touched once its container is closed: its memory is gone.
    """
    container = av.open(path, metadata_errors="replace")
    try:
        return container, _video_stream(path, container, limits, strict)
    except BaseException:
        container.close()
        raise


def _video_stream(path: str, container: InputContainer, limits: Limits, strict: bool) -> VideoStream:
    found = len(container.streams)
    if found > limits.max_streams:
        raise UnreadableVideo(path, f"{found} streams are over the cap, max_streams = {limits.max_streams}")
    # Cover art is stored as a video stream of one picture.
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise UnreadableVideo(path, f"no video stream (streams found: {kinds})")
    stream = streams[0]
    if stream.codec_context is None:
        raise UnreadableVideo(path, "video of a kind that nobody here can decode, or a damaged header")
    limits.check_pixels(path, stream.width, stream.height)
    limits.check_duration(path, (container.duration or 0) / av.time_base)
    context = stream.codec_context
    context.thread_count = 1
    # Frames come back with the number that their packet had, where packets pass through our hands.
    context.copy_opaque = not container.format.name.startswith("mov") or overlooks_damage(stream)
    # A second cap inside the decoder, for frames that grow on the way. It counts padded rows, hence the slack.
    options = {"max_pixels": str(2 * limits.max_pixels + 65_536)}
    context.options = options | ({"err_detect": "aggressive+explode"} if strict else {})
    return stream


def packets_of(container: InputContainer, stream: VideoStream | None = None) -> Iterator[Packet[VideoStream]]:
    """The packets of a stream, or of all, up to the end of the file.

    PyAV ends with an empty one for each stream, and fails at one that came up on the way, as in a damaged file.
    """
    for packet in container.demux(stream) if stream else container.demux():
        if packet.size:
            yield cast("Packet[VideoStream]", packet)
        elif packet.dts is None:
            return


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per tick."""
    return stream.time_base or Fraction(1, av.time_base)


def stamped_frames(
    path: str, container: InputContainer, stream: VideoStream, limits: Limits, passage: Passage
) -> Iterator[Shown]:
    """Decoded frames with their ticks, strictly ascending; a frame stamped out of order is left out.

    Frames keep the size of the passage. A frame without a stamp follows the one before it by the average step; without
    any to follow, it ends here. In the place of frames that are missing beside damage stands the next, as damaged.
    """
    # AVI stores no display times, and those made up for it are out of order where frames are reordered.
    by_dts = container.format.name == "avi"
    step = max(1, round(1 / (stream.average_rate * time_base(stream)))) if stream.average_rate else 1
    last: int | None = None
    pace = step
    furthest = math.ceil(JUMP_S / time_base(stream)) if container.format.name in JOINABLE else None
    damage = Damage()
    for frame in _decoded(container, stream, passage, damage):
        stamp = frame.dts if by_dts or frame.pts is None else frame.pts
        if stamp is None and last is None:
            return
        tick = stamp if stamp is not None else (last or 0) + step
        if damage.lost and by_dts and stream.codec_context.has_b_frames:
            damage.adrift = True  # reordered frames are counted, not stamped: behind a lost one all come too early
        before, sound = damage.damaged, damage.is_sound(frame)
        if last is None and passage.first is not None and tick != passage.first:
            continue
        if furthest is not None and last is not None and tick - last > furthest:
            damage.lose(0)  # within a take its stamp can only be damaged, and all after it would seem out of order
            continue
        # Against the size it started with: the stream's own follows every change.
        if (frame.width, frame.height) != passage.size:
            limits.check_pixels(path, frame.width, frame.height)
            raise UnreadableVideo(path, f"frame size changes to {frame.width} x {frame.height} on the way")
        if damage.lost and not (sound and damage.damaged):  # else the frame went in before what was lost
            gone = _due(damage, tick, last, pace)
            damage.lost, damage.lost_at = False, None
            if gone < tick and (last is None or gone > last):
                last = gone
                yield Shown(gone, frame, False, True)
        elif last is not None and (before or not sound) and tick - last > 1.5 * pace:
            last += pace  # beside damage, nobody knows what was on display in a gap
            yield Shown(last, frame, False, True)
        if last is None or tick > last:
            # The usual distance of frames, or that of the last two where many follow each other fast.
            pace = step if last is None else min(step, tick - last)
            last = tick
            yield Shown(tick, frame, sound)
    if (damage.lost or damage.damaged) and last is not None:
        yield Shown(max(last + 1, _due(damage, last + step, last, pace)), frame, False, True)


def _due(damage: Damage, tick: int, last: int | None, pace: int) -> int:
    """When the first frame was due of those that are lost between `last` and `tick`; at the latest, if that is unknown.

    With a frame that was lost, those are gone that were to be displayed before it and are predicted from it.
    """
    if last is None:
        return tick - 1 if damage.lost_at is None else damage.lost_at
    if damage.lost_at is None:
        return last + max(1, pace // 2)
    return min(damage.lost_at, last + pace) if damage.lost_at > last else last + pace


def from_keyframe(frames: Iterator[Shown]) -> Iterator[Shown]:
    """Drops what a decoder shows before the keyframe it was sent to: pictures whose references it never saw."""
    started = False
    for shown in frames:
        started = started or (shown.frame.key_frame and not shown.missing)
        if started:
            yield shown


def _decoded(container: InputContainer, stream: VideoStream, passage: Passage, damage: Damage) -> Iterator[VideoFrame]:
    """Frames in the order of display. What cannot be decoded is told to `damage`.

    Raises av.InvalidDataError where so much in a row cannot be decoded that the rest is no video.
    """
    lost = 0
    while True:
        try:
            yield from _frames(container, stream, passage, damage)
        except av.InvalidDataError:
            lost += 1
            if lost > _MOST_LOST:
                raise
            damage.lose(stream.codec_context.has_b_frames)
        else:
            return


def _frames(container: InputContainer, stream: VideoStream, passage: Passage, damage: Damage) -> Iterator[VideoFrame]:
    with ClusterSums.of(container, stream) as sums:
        wanted = passage.recheck and not sums and overlooks_damage(stream)
        recheck = Recheck(container.name, stream, math.prod(passage.size)) if wanted else None
        if not sums and not recheck and passage.end is None and container.format.name.startswith(_TABLED):
            if passage.jumped and stream.codec_context.has_b_frames:
                yield from _by_packet(container, stream, passage, damage, leading=True)
            # The loop over packets is PyAV's own: one in Python costs a part of what decoding does.
            yield from container.decode(stream)
        else:
            yield from _by_packet(container, stream, passage, damage, sums, recheck)


def _by_packet(
    container: InputContainer,
    stream: VideoStream,
    passage: Passage,
    damage: Damage,
    sums: ClusterSums | None = None,
    recheck: Recheck | None = None,
    leading: bool = False,
) -> Iterator[VideoFrame]:
    """Frames up to the end of the passage, or, of the `leading` packets, up to one that is displayed after them."""
    context, index, arrival = stream.codec_context, AviIndex(container, stream), Arrival(passage.jumped)
    ledger = Ledger(damage, holds=recheck is not None)
    for packet in packets_of(container, stream):
        if passage.end is not None and packet.pos is not None and packet.pos >= passage.end:
            break
        packet.opaque = number = damage.number()
        damage.adrift = damage.adrift or index.misses(packet)
        if packet.is_corrupt or (sums and sums.misses(packet.pos)):  # its frame says nothing of it
            damage.mark(context.has_b_frames, number)
        for damaged in recheck.damaged(packet, number) if recheck else ():
            damage.mark(context.has_b_frames, damaged)
        excused = arrival.excuses(packet)
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            frames = []
            if not excused:
                stamp = packet.dts if index.counts or packet.pts is None else packet.pts
                damage.lose(context.has_b_frames, number, stamp)
        else:
            if arrival.over and context.name in _ALL_SHOWN:
                ledger.enter(number, packet)
        yield from ledger.released(frames, context.has_b_frames)
        if leading and arrival.over:
            return
    for damaged in recheck.rest() if recheck else ():
        damage.mark(context.has_b_frames, damaged)
    if not leading:
        yield from ledger.rest(stream.decode(None), context.has_b_frames)
