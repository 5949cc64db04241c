"""Opens videos and reads the frames on display at given times: PyAV for files, Pillow for folders, TFDS and records.

The law everything rests on: a frame read after a seek is the frame that decoding from the start would have
shown. Headers are not believed: a frame counts when it has been decoded, an end when it has been reached.
Letters: N frames of a video, T frames asked for.
"""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby

import numpy as np

from surgmotion_jax.data.container import Shown, reported
from surgmotion_jax.data.cursor import Cursor
from surgmotion_jax.data.images import probe_images, read_all_images, read_images
from surgmotion_jax.data.look import Look
from surgmotion_jax.data.media import (
    DEFAULT_LIMITS,
    FrameTable,
    Limits,
    Size,
    UnreadableVideo,
    VideoInfo,
    check_times,
)
from surgmotion_jax.data.picture import Normaliser
from surgmotion_jax.data.probe import probe_file
from surgmotion_jax.data.records.source import is_records, probe_records, read_all_records, read_records
from surgmotion_jax.data.tfds_source import is_tfds, probe_tfds, read_all_tfds, read_tfds


def probe(path: str, limits: Limits = DEFAULT_LIMITS, folder_fps: float = 1.0) -> VideoInfo:
    """Opens a video (a file, a folder of images, a `tfds:` or `records:` location of a case): its size and length.

    Of a file it decodes the first two frames and looks for the end; one that may be joined from others is read through.

    Raises:
        UnreadableVideo: naming the file and why: empty, not a video, no video stream, fewer than two frames,
            cut short, no time stamps, or over one of the `limits`.
    """
    if is_tfds(path):
        return probe_tfds(path, limits)
    if is_records(path):
        return probe_records(path, limits)
    if os.path.isdir(path):
        return probe_images(path, limits, folder_fps)
    return probe_file(path, limits)


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
        path: video file, frame folder, `tfds:` or `records:` location.
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
    if is_records(info.path):
        return read_records(info, times_s, size)
    if info.images:
        return read_images(info, times_s, size, limits)
    shape = info.output_size(size)
    with reported(path):
        parts = [_read_take(part, times, shape, limits, seek) for part, times in _by_take(info, times_s)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def frames_in_turn(
    info: VideoInfo, times_s: Iterable[float], size: Size = None, limits: Limits = DEFAULT_LIMITS
) -> Iterator[np.ndarray]:
    """What `read_frames` returns, frame by frame: for recordings that are too long to hold.

    Times are ascending, and lie within one take. Raises UnreadableVideo, also after some frames.
    """
    if info.look is None:
        for time_s in times_s:
            yield read_frames(info.path, [time_s], size, info=info, limits=limits)[0]
        return
    times, whole = iter(times_s), info.look.interlaced
    with reported(info.path):
        while (left := next(times, None)) is not None:
            times = chain([left], times)
            # Goes round once more where frames turn out to be interlaced on the way.
            times, whole = (yield from _until_interlaced(info, times, info.output_size(size), limits, whole)), True


def _until_interlaced(
    info: VideoInfo, times_s: Iterator[float], shape: tuple[int, int], limits: Limits, whole: bool
) -> Generator[np.ndarray, None, Iterator[float]]:
    """Frames up to the first that is interlaced and was not made `whole`; returns the times that are left."""
    held: tuple[int, np.ndarray] | None = None
    with closing(Cursor(info, limits, seek=True, whole=whole)) as cursor:
        to_rgb = Normaliser(info.path, _look(info), *shape)
        for time_s in times_s:
            shown = cursor.at(info.tick(time_s))
            if shown.frame.interlaced_frame and not whole:
                return chain([time_s], times_s)
            if held is None or held[0] != shown.tick:
                _check_sound(info, shown, time_s)
                held = shown.tick, to_rgb(shown.frame)
            yield held[1]
    return iter(())


def _check_sound(info: VideoInfo, shown: Shown, time_s: float) -> None:
    if not shown.sound:
        raise UnreadableVideo(info.path, f"the frame at {time_s:.3f} s is damaged, or follows a damaged one")


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
    if is_records(info.path):
        return read_all_records(info, size)
    if info.images:
        return read_all_images(info, size, limits)
    info = info.within(info.start_s, info.duration_s)
    with reported(path):
        table = _read_whole_take(info, info.output_size(size), limits, max_frames, whole=_look(info).interlaced)
        # Read again where frames turn out to be interlaced on the way.
        table = table or _read_whole_take(info, info.output_size(size), limits, max_frames, whole=True)
    assert table is not None
    return table


def _look(info: VideoInfo) -> Look:
    assert info.look is not None, "only folders of images have no look"
    return info.look


def _by_take(info: VideoInfo, times_s: Sequence[float]) -> Iterator[tuple[VideoInfo, list[float]]]:
    """The times with what is known of their take. Raises UnreadableVideo for a take of another size than the first."""
    for _, group in groupby(times_s, info.take):
        times = list(group)
        part = info.within(times[0], times[0])
        if (part.height, part.width) != (info.height, info.width):
            found = f"frames of {part.width} x {part.height} pixels at {times[0]:.3f} s"
            raise UnreadableVideo(info.path, f"{found}, in a video that starts with {info.width} x {info.height}")
        yield part, times


def _read_take(
    info: VideoInfo, times_s: Sequence[float], shape: tuple[int, int], limits: Limits, seek: bool
) -> np.ndarray:
    """Frames of one take, at `shape`, (height, width)."""
    frames = _frames_at(info, times_s, shape, limits, seek, whole=_look(info).interlaced)
    # Read again where frames turn out to be interlaced on the way.
    frames = frames or _frames_at(info, times_s, shape, limits, seek, whole=True)
    assert frames is not None
    return np.stack(frames)


def _frames_at(
    info: VideoInfo, times_s: Sequence[float], shape: tuple[int, int], limits: Limits, seek: bool, whole: bool
) -> list[np.ndarray] | None:
    """A frame for each time; None where one is interlaced and was not made `whole`."""
    frames: dict[int, np.ndarray] = {}
    ticks: list[int] = []
    with closing(Cursor(info, limits, seek, whole)) as cursor:
        to_rgb = Normaliser(info.path, _look(info), *shape)
        for time_s in times_s:
            shown = cursor.at(info.tick(time_s))
            if shown.tick not in frames:
                _check_sound(info, shown, time_s)
                if shown.frame.interlaced_frame and not whole:
                    return None
                frames[shown.tick] = to_rgb(shown.frame)
            ticks.append(shown.tick)
    return [frames[tick] for tick in ticks]


def _read_whole_take(
    info: VideoInfo, shape: tuple[int, int], limits: Limits, max_frames: int | None, whole: bool
) -> FrameTable | None:
    """Every frame of a take; None where one is interlaced and was not made `whole`."""
    ticks: list[int] = []
    frames: list[np.ndarray] = []
    end = info.tick(info.duration_s)
    with closing(Cursor(info, limits, seek=False, whole=whole)) as cursor:
        to_rgb = Normaliser(info.path, _look(info), *shape)
        for shown in cursor.rest():
            if shown.tick > end:
                break
            if not shown.sound:
                raise UnreadableVideo(info.path, f"frame {len(ticks)} is damaged, or follows a damaged one")
            if shown.frame.interlaced_frame and not whole:
                return None
            if len(ticks) == max_frames:
                raise UnreadableVideo(info.path, f"more than the {max_frames} frames that were expected")
            ticks.append(shown.tick)
            frames.append(to_rgb(shown.frame))
        if not frames:
            raise UnreadableVideo(info.path, "no frame could be decoded")
        # What the reader of a clip would refuse must not be served from memory either.
        cursor.check_end(end, shown)
    return FrameTable(info, np.array(ticks, np.int64), np.stack(frames))
