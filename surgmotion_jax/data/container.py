"""An open video container: its one video stream, and that stream's frames stamped with their ticks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.damage import DamageLedger, Sent
from surgmotion_jax.data.media import Limits, UnreadableVideo


class Shown(NamedTuple):
    """A decoded frame, from when it is on display, and whether it is what was recorded."""

    tick: int
    frame: VideoFrame
    sound: bool


@dataclass(frozen=True)
class Passage:
    """The part of a file to decode, and the picture size, (columns, rows), that it must keep."""

    size: tuple[int, int]
    first: int | None = None  # tick of the keyframe that it begins with, where others may be decoded before it
    end: int | None = None  # byte at which the part after it begins; None for the end of the file


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
    container = av.open(path)
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
    limits.check_pixels(path, stream.width, stream.height)
    limits.check_duration(path, (container.duration or 0) / av.time_base)
    context = stream.codec_context
    context.thread_count = 1
    # Frames come back with the packet that they were sent as.
    context.copy_opaque = True
    # A second cap inside the decoder, for frames that grow on the way. It counts padded rows, hence the slack.
    options = {"max_pixels": str(2 * limits.max_pixels + 65_536)}
    context.options = options | ({"err_detect": "aggressive+explode"} if strict else {})
    return stream


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per tick."""
    return stream.time_base or Fraction(1, av.time_base)


def stamped_frames(
    path: str, container: InputContainer, stream: VideoStream, limits: Limits, passage: Passage
) -> Iterator[Shown]:
    """Decoded frames with their ticks, strictly ascending; a frame stamped out of order is left out.

    Frames keep the size of the passage. A frame without a stamp follows the one before it by the average step; without
    any to follow, it ends here. In the place of a frame that could not be decoded stands the next, as damaged.
    """
    # AVI stores no display times, and those made up for it are out of order where frames are reordered.
    by_dts = container.format.name == "avi"
    step = max(1, round(1 / (stream.average_rate * time_base(stream)))) if stream.average_rate else 1
    last: int | None = None
    lost: list[int] = []
    for frame, whole in _decoded(container, stream, passage.end, lost):
        stamp = frame.dts if by_dts or frame.pts is None else frame.pts
        if stamp is None and last is None:
            return
        tick = stamp if stamp is not None else (last or 0) + step
        if last is None and passage.first is not None and tick != passage.first:
            continue
        # Against the size it started with: the stream's own follows every change.
        if (frame.width, frame.height) != passage.size:
            limits.check_pixels(path, frame.width, frame.height)
            raise UnreadableVideo(path, f"frame size changes to {frame.width} x {frame.height} on the way")
        # Reordered frames of an AVI are counted, not stamped: behind a lost one all come too early.
        sound = whole and not (lost and by_dts and stream.codec_context.has_b_frames)
        if last is None or tick > last:
            yield from (Shown(gone, frame, False) for gone in sorted(lost) if (last or 0) < gone < tick)
            last = tick
            yield Shown(tick, frame, sound)


def from_keyframe(frames: Iterator[Shown]) -> Iterator[Shown]:
    """Drops what a decoder shows before the keyframe it was sent to: pictures whose references it never saw."""
    started = False
    for shown in frames:
        started = started or shown.frame.key_frame
        if started:
            yield shown


def _decoded(
    container: InputContainer, stream: VideoStream, end: int | None, lost: list[int]
) -> Iterator[tuple[VideoFrame, bool]]:
    """Frames in the order of display, each with whether it is sound, up to the packet at byte `end`.

    Stamps of packets that cannot be decoded are added to `lost`.
    """
    ledger = DamageLedger()
    for packet in container.demux(stream):
        over = end is not None and packet.pos is not None and packet.pos >= end
        if over or not packet.size:
            break
        sent = ledger.send(packet.is_keyframe, packet.is_corrupt)
        packet.opaque = sent
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            ledger.damage(sent)
            stamp = packet.dts if packet.pts is None else packet.pts
            lost += [] if stamp is None else [stamp]
            continue
        yield from ((frame, _is_sound(ledger, frame)) for frame in frames)
    yield from ((frame, _is_sound(ledger, frame)) for frame in stream.decode(None))


def _is_sound(ledger: DamageLedger, frame: VideoFrame) -> bool:
    sent = frame.opaque
    return ledger.receive(sent, frame.is_corrupt) if isinstance(sent, Sent) else not frame.is_corrupt
