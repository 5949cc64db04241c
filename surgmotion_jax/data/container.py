"""An open video container: its one video stream, and that stream's frames stamped with their ticks."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from surgmotion_jax.data.media import Limits, UnreadableVideo


@contextmanager
def reported(path: str) -> Iterator[None]:
    """Turns what FFmpeg raises into UnreadableVideo."""
    try:
        yield
    except UnreadableVideo:
        raise
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(path, f"cannot be decoded: {error}") from error


def open_video(path: str, limits: Limits) -> tuple[InputContainer, VideoStream]:
    """The container and its first real video stream, set to decode in one thread under the caps.

    A stream must not be touched once its container is closed: its memory is gone.
    """
    container = av.open(path)
    try:
        return container, _video_stream(path, container, limits)
    except BaseException:
        container.close()
        raise


def _video_stream(path: str, container: InputContainer, limits: Limits) -> VideoStream:
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
    stream.codec_context.thread_count = 1
    # A second cap inside the decoder, for frames that grow on the way. It counts padded rows, hence the slack.
    stream.codec_context.options = {"max_pixels": str(2 * limits.max_pixels + 65_536)}
    return stream


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per tick."""
    return stream.time_base or Fraction(1, av.time_base)


def stamped_frames(
    path: str, container: InputContainer, stream: VideoStream, limits: Limits, size: tuple[int, int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames with their ticks, strictly ascending; a frame stamped out of order is left out.

    Frames keep the given size, (width, height). A frame without a stamp follows the one before it by
    the average step; without any to follow, it ends here.
    """
    # AVI stores no display times, and those made up for it are out of order where frames are reordered.
    by_dts = container.format.name == "avi"
    step = max(1, round(1 / (stream.average_rate * time_base(stream)))) if stream.average_rate else 1
    last: int | None = None
    for frame in container.decode(stream):
        stamp = frame.dts if by_dts or frame.pts is None else frame.pts
        if stamp is None and last is None:
            return
        tick = stamp if stamp is not None else (last or 0) + step
        # Against the size it started with: the stream's own follows every change.
        if (frame.width, frame.height) != size:
            limits.check_pixels(path, frame.width, frame.height)
            raise UnreadableVideo(path, f"frame size changes to {frame.width} x {frame.height} on the way")
        if last is None or tick > last:
            last = tick
            yield tick, frame


def from_keyframe(frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[tuple[int, VideoFrame]]:
    """Drops what a decoder shows before the keyframe it was sent to: pictures whose references it never saw."""
    started = False
    for tick, frame in frames:
        started = started or frame.key_frame
        if started:
            yield tick, frame
