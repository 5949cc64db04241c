"""Opens videos and reads the frames on display at given times: PyAV for container files, Pillow for folders and TFDS.

The law everything rests on: a frame read after a seek is the frame that decoding from the start would have
shown. Headers are not believed: a frame counts when it has been decoded, an end when it has been reached.
Letters: N frames of a video, T frames asked for.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from surgmotion_jax.data.container import from_keyframe, open_video, reported, stamped_frames, time_base
from surgmotion_jax.data.images import probe_images, read_all_images, read_images
from surgmotion_jax.data.media import (
    DEFAULT_LIMITS,
    FrameTable,
    Limits,
    Size,
    UnreadableVideo,
    VideoInfo,
    check_times,
)
from surgmotion_jax.data.tfds_source import is_tfds, probe_tfds, read_all_tfds, read_tfds

_LONG_GAP_S = 10.0
"""Without an index, seek over gaps longer than this: the usual longest distance between keyframes."""


def probe(path: str, limits: Limits = DEFAULT_LIMITS, folder_fps: float = 1.0) -> VideoInfo:
    """Opens a video (a file, a folder of images, or a `tfds:` location of a case) and finds its size and length.

    Of a file it decodes the first two frames and looks for the end.

    Raises:
        UnreadableVideo: naming the file and why: empty, not a video, no video stream, fewer than two frames,
            cut short, no time stamps, or over one of the `limits`.
    """
    if is_tfds(path):
        return probe_tfds(path, limits)
    if os.path.isdir(path):
        return probe_images(path, limits, folder_fps)
    with reported(path):
        if os.path.getsize(path) == 0:
            raise UnreadableVideo(path, "empty file")
        container, stream = open_video(path, limits)
        with container:
            base, width, height = time_base(stream), stream.width, stream.height
            first, second = _first_two_ticks(path, container, stream, limits, (width, height))
            fps = float(stream.average_rate or 1 / ((second - first) * base))
        duration_s = float((_end_tick(path, first, limits) - first) * base)
    limits.check_duration(path, duration_s)
    return VideoInfo(path, duration_s, fps, width, height, base, origin=first)


def read_frames(
    path: str,
    times_s: Sequence[float],
    size: Size = None,
    *,
    info: VideoInfo | None = None,
    limits: Limits = DEFAULT_LIMITS,
    folder_fps: float = 1.0,
    seek: bool = True,
) -> np.ndarray:
    """The frame on display at each time: the last one stamped no later than it.

    Args:
        path: video file, frame folder, or `tfds:` location.
        times_s: seconds from the first frame, ascending; past the end means the last frame.
        size: output (height, width), or its short side, or None for the stored size.
        info: what `probe` returned, to save opening the file twice.
        limits: caps on what is opened and decoded.
        folder_fps: frame rate of a frame folder, where `info` is not given.
        seek: False decodes everything from the start: slower, and by law the same.

    Returns:
        uint8 [T, H, W, 3], RGB.

    Raises:
        UnreadableVideo: naming the file and why.
        ValueError: times that are not ascending.
    """
    check_times(times_s)
    info = info or probe(path, limits, folder_fps)
    if is_tfds(info.path):
        return read_tfds(info, times_s, size, limits)
    if info.images:
        return read_images(info, times_s, size, limits)
    height, width = info.output_size(size)
    frames: dict[int, np.ndarray] = {}
    ticks: list[int] = []
    with reported(path), closing(_Cursor(info, limits, seek)) as cursor:
        to_rgb = _Converter(height, width)
        for time_s in times_s:
            tick, frame = cursor.at(info.tick(time_s))
            if tick not in frames:
                if frame.is_corrupt:
                    raise UnreadableVideo(path, f"the frame at {time_s:.3f} s is damaged")
                frames[tick] = to_rgb(frame)
            ticks.append(tick)
    return np.stack([frames[tick] for tick in ticks])


def read_all(
    path: str,
    size: Size = None,
    *,
    info: VideoInfo,
    limits: Limits = DEFAULT_LIMITS,
    max_frames: int | None = None,
) -> FrameTable:
    """Every frame of a video. Raises UnreadableVideo, also where it holds more than `max_frames`."""
    if is_tfds(info.path):
        return read_all_tfds(info, size, limits)
    if info.images:
        return read_all_images(info, size, limits)
    height, width = info.output_size(size)
    ticks: list[int] = []
    frames: list[np.ndarray] = []
    with reported(path), closing(_Cursor(info, limits, seek=False)) as cursor:
        to_rgb = _Converter(height, width)
        for tick, frame in cursor.rest():
            if frame.is_corrupt:
                raise UnreadableVideo(path, f"frame {len(ticks)} is damaged")
            if len(ticks) == max_frames:
                raise UnreadableVideo(path, f"more than the {max_frames} frames that were expected")
            ticks.append(tick)
            frames.append(to_rgb(frame))
        if not frames:
            raise UnreadableVideo(path, "no frame could be decoded")
        # What the reader of a clip would refuse must not be served from memory either.
        cursor.check_end(info.tick(info.duration_s), (ticks[-1], frame))
    return FrameTable(info, np.array(ticks, np.int64), np.stack(frames))


def _first_two_ticks(
    path: str, container: InputContainer, stream: VideoStream, limits: Limits, size: tuple[int, int]
) -> tuple[int, int]:
    ticks = [tick for tick, _ in islice(stamped_frames(path, container, stream, limits, size), 2)]
    if len(ticks) < 2:
        raise UnreadableVideo(path, f"{len(ticks)} frame(s) with a time stamp; a video needs at least 2")
    return ticks[0], ticks[1]


def _end_tick(path: str, first: int, limits: Limits) -> int:
    """Tick at which the last frame ends, found from the packets at the end of the file.

    Raises UnreadableVideo where the data of all streams end before the header says: a file cut short.
    """
    container, stream = open_video(path, limits)
    with container:
        by_dts = container.format.name == "avi"
        announced_s = container.duration / av.time_base if container.duration else None
        started_s = (container.start_time or 0) / av.time_base
        if announced_s is not None:
            # A file that cannot seek is read through instead.
            with suppress(av.FFmpegError):
                container.seek(round((started_s + announced_s - 1) / time_base(stream)), stream=stream)
        end, reached_s = first, 0.0
        for packet in container.demux():
            stamp = packet.dts if packet.pts is None or by_dts else packet.pts
            if stamp is None or packet.time_base is None:
                continue
            stop = stamp + (packet.duration or 0)
            reached_s = max(reached_s, float(stop * packet.time_base) - started_s)
            if packet.stream.index == stream.index:
                # AVI frames leave the decoder a few stamps late; the end is as late as the beginning.
                end = max(end, stop + (first - (stream.start_time or 0) if by_dts else 0))
    if announced_s is not None and reached_s < announced_s - max(1.0, 0.02 * announced_s):
        raise UnreadableVideo(
            path, f"cut short: the header announces {announced_s:.1f} s, the data end at {reached_s:.1f} s"
        )
    return end


class _Converter:
    """To RGB at one size. One swscale context serves all frames of a read: making one costs more than a frame."""

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width, self._scaler = height, width, VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        small = self._scaler.reformat(frame, self._width, self._height, "rgb24", interpolation="BILINEAR", threads=1)
        return small.to_ndarray()


class _Cursor:
    """A place in an open video that moves forward frame by frame, or jumps to a keyframe.

    `_held` is the frame last passed, `_pending` the next one: a time belongs to the held frame only once the
    pending one is known to be later.
    """

    def __init__(self, info: VideoInfo, limits: Limits, seek: bool) -> None:
        self._info, self._limits, self._seek = info, limits, seek
        self._step = max(1, round(1 / (info.fps * float(info.time_base))))
        self._second = max(1, round(1 / float(info.time_base)))
        self._restart()
        if seek and "matroska" in self._container.format.name:
            # Matroska reads its table of keyframes on the first seek.
            self._container.seek(info.origin, stream=self._stream)
            self._restart(reopen=False)

    def _restart(self, reopen: bool = True) -> None:
        if reopen:
            self._container, self._stream = open_video(self._info.path, self._limits)
        self._source = stamped_frames(
            self._info.path, self._container, self._stream, self._limits, (self._info.width, self._info.height)
        )
        self._held: tuple[int, VideoFrame] | None = None
        self._pending: tuple[int, VideoFrame] | None = None
        self._started = False

    def close(self) -> None:
        self._container.close()

    def rest(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every frame from here to the end."""
        return self._source

    def at(self, tick: int) -> tuple[int, VideoFrame]:
        """The frame on display at `tick`, with its own tick. Ticks must be asked for in ascending order."""
        if self._seek and self._worth_jumping(tick):
            self._jump(tick)
        if not self._started:
            self._advance()
        while self._pending is not None and self._pending[0] <= tick:
            self._advance()
        shown = self._held or self._pending
        if shown is None:
            raise UnreadableVideo(self._info.path, "no frame could be decoded")
        if self._pending is None:
            self.check_end(tick, shown)
        return shown

    def _advance(self) -> None:
        if self._pending is not None:
            self._held = self._pending
        self._pending = next(self._source, None)
        self._started = True

    def check_end(self, tick: int, shown: tuple[int, VideoFrame]) -> None:
        """Refuses to repeat the last frame of a file that ends well before it was found to end."""
        last, frame = shown
        if tick > last + max(self._step, frame.duration or 0) + self._second:
            second = (last - self._info.origin) / self._second
            raise UnreadableVideo(
                self._info.path, f"no frame after {second:.1f} s in a video of {self._info.duration_s:.1f} s"
            )

    def _worth_jumping(self, tick: int) -> bool:
        """Whether a keyframe lies between here and `tick`, so that the frames before it need no decoding."""
        here = self._pending[0] if self._pending is not None else self._info.origin
        index = self._stream.index_entries
        # The index counts in decoding time, which runs ahead of display time by a few reordered frames.
        margin = 4 * self._step if self._stream.codec_context.has_b_frames else 0
        entry = index.search_timestamp(tick - margin, backward=True) if len(index) else -1
        if entry >= 0 and index[entry].timestamp > here:
            return True
        covered = len(index) > 1 and index[len(index) - 1].timestamp >= tick - margin - self._step
        return not covered and tick - here > _LONG_GAP_S * self._second

    def _jump(self, tick: int) -> None:
        """Moves to a keyframe displayed no later than `tick`; failing that, back to the start of the file."""
        back = 0
        while tick - back > self._info.origin:
            try:
                self._container.seek(tick - back, stream=self._stream)
            except av.FFmpegError:
                break
            self._restart(reopen=False)
            self._source = from_keyframe(self._source)
            self._advance()
            if self._pending is not None and self._pending[0] <= tick:
                return
            back = max(2 * back, self._second)
        self._container.close()
        self._restart()
