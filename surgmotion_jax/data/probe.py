"""Opens a video file once and finds out all that reading it needs: size, look, length, takes."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from surgmotion_jax.data.container import (
    JOINABLE,
    Passage,
    Shown,
    from_keyframe,
    open_video,
    packets_of,
    reported,
    stamped_frames,
    time_base,
)
from surgmotion_jax.data.following import following_movie
from surgmotion_jax.data.look import Look
from surgmotion_jax.data.media import Limits, UnreadableVideo, VideoInfo
from surgmotion_jax.data.mp4_tables import check_tables
from surgmotion_jax.data.picture import look_of
from surgmotion_jax.data.take import find_takes

_LATE_S = 1.0
"""The first frame of an AVI is on display for at most so long."""

_SOME = 10
"""Frames that no decoder accepts by chance."""


class _Beginning(NamedTuple):
    """The first two frames of a file, and what they tell."""

    first: Shown
    second: Shown
    look: Look
    fps: float
    origin: int  # tick from which on the first frame is on display


def probe_file(path: str, limits: Limits) -> VideoInfo:
    """Decodes the first two frames of a file and looks for its end and, where it may be joined from several, for takes.

    Raises UnreadableVideo naming the file and why.
    """
    with reported(path):
        if os.path.getsize(path) == 0:
            raise UnreadableVideo(path, "empty file")
        check_tables(path)
        begun, base = _beginning(path, limits)
        first, look = begun.origin, begun.look
        takes = find_takes(path, look, limits)
        duration_s = takes[-1].end_s if takes else float((_end_tick(path, begun, limits) - first) * base)
    limits.check_duration(path, duration_s)
    height, width = look.size
    limits.check_pixels(path, width, height)
    following = following_movie(path)
    return VideoInfo(
        path, duration_s, begun.fps, width, height, base, origin=first, look=look, takes=takes, following=following
    )


def _beginning(path: str, limits: Limits) -> tuple[_Beginning, Fraction]:
    """What the first frames tell. Where a strict decoder refuses them and a lenient one does not, it is the encoder."""
    found: dict[bool, tuple[_Beginning, Fraction] | UnreadableVideo | av.InvalidDataError] = {}
    for strict in (True, False):
        try:
            found[strict] = _first_frames(path, limits, strict)
        except (UnreadableVideo, av.InvalidDataError) as error:
            found[strict] = error
        begun = found[strict]
        if isinstance(begun, tuple) and begun[0].first.sound and begun[0].second.sound:
            first, base = begun
            if not strict and _is_sound_elsewhere(path, limits, first):
                first = first._replace(look=replace(first.look, strict=True))
            return first, base
    for begun in found.values():
        if isinstance(begun, tuple):
            return begun
    assert isinstance(begun, Exception)
    raise begun


def _is_sound_elsewhere(path: str, limits: Limits, begun: _Beginning) -> bool:
    """Whether a strict decoder accepts frames behind another keyframe: then what it refuses is damaged."""
    container, stream = open_video(path, limits)
    with container:
        length_s = (container.duration or 0) / av.time_base
        passage = Passage((begun.look.columns, begun.look.rows), jumped=True, recheck=limits.recheck)
        for part_s in (length_s / 2, max(0.0, length_s - 1)):
            with suppress(UnreadableVideo, av.FFmpegError):
                container.seek(begun.origin + round(part_s / time_base(stream)), stream=stream)
                shown = stamped_frames(path, container, stream, limits, passage)
                some = list(islice(from_keyframe(shown), _SOME))
                if len(some) == _SOME and all(one.sound for one in some):
                    return True
    return False


def _first_frames(path: str, limits: Limits, strict: bool) -> tuple[_Beginning, Fraction]:
    container, stream = open_video(path, limits, strict)
    with container:
        base = time_base(stream)
        passage = Passage((stream.width, stream.height), recheck=limits.recheck and strict)
        shown = stamped_frames(path, container, stream, limits, passage)
        frames, lost = list[Shown](), list[Shown]()
        for one in shown:
            (lost if one.missing else frames).append(one)
            if len(frames) == 2:
                break
        if len(frames) < 2:
            raise UnreadableVideo(path, f"{len(frames)} frame(s) with a time stamp; a video needs at least 2")
        first, second = frames
        look = look_of(path, stream, first.frame, strict, any(one.frame.interlaced_frame for one in frames))
        fps = float(stream.average_rate or 1 / ((second.tick - first.tick) * base))
        origin = _origin(path, container, stream, lost, frames)
        if container.format.name == "avi" and (second.tick - first.tick) * base > _LATE_S:
            # A late start is stored as the first frame, then empty ones up to the second.
            origin = second.tick - max(1, round(1 / (fps * float(base))))
    return _Beginning(first, second, look, fps, origin), base


def _origin(path: str, container: InputContainer, stream: VideoStream, lost: list[Shown], frames: list[Shown]) -> int:
    """The tick at which time begins: that of the first frame, also where it is lost or damaged.

    Raises UnreadableVideo where its stamp is damaged with it, and nothing else tells.
    """
    first, name = frames[0], container.format.name
    if name.startswith("matroska") and (lost or not first.sound):
        with suppress(av.FFmpegError):
            container.seek(first.tick, stream=stream)  # reads the table of keyframes
        if not len(stream.index_entries):
            raise UnreadableVideo(
                path, "its beginning is damaged, and it has no table of keyframes that tells when it is"
            )
        return stream.index_entries[0].timestamp
    if name.startswith("mov") and (lost or not first.sound) and stream.start_time is not None:
        return stream.start_time
    # What can be cut anywhere begins where it can, and reordered frames of an AVI have no stamps of their own.
    begins = name not in JOINABLE and not (name == "avi" and stream.codec_context.has_b_frames)
    return min(one.tick for one in (*(lost if begins else ()), first))


def _end_tick(path: str, begun: _Beginning, limits: Limits) -> int:
    """Tick at which the last frame ends, found from the packets at the end of the file.

    Raises UnreadableVideo where the data of all streams end before the header says: a file cut short.
    """
    container, stream = open_video(path, limits)
    with container:
        by_dts = container.format.name == "avi"
        # AVI frames leave the decoder a few stamps late; the end is as late as the beginning.
        late = begun.first.tick - _first_stamp(container, stream, begun.first.tick) if by_dts else 0
        announced_s = container.duration / av.time_base if container.duration else None
        started_s = (container.start_time or 0) / av.time_base
        if announced_s is not None:
            # A file that cannot seek is read through instead.
            with suppress(av.FFmpegError):
                container.seek(round((started_s + announced_s - 1) / time_base(stream)), stream=stream)
        end, reached_s = begun.origin, 0.0
        for packet in packets_of(container):
            stamp = packet.dts if packet.pts is None or by_dts else packet.pts
            if stamp is None or packet.time_base is None:
                continue
            stop = stamp + (packet.duration or 0)
            reached_s = max(reached_s, float(stop * packet.time_base) - started_s)
            if packet.stream.index == stream.index:
                end = max(end, stop + late)
    if announced_s is not None and reached_s < announced_s - max(1.0, 0.02 * announced_s):
        raise UnreadableVideo(
            path, f"cut short: the header announces {announced_s:.1f} s, the data end at {reached_s:.1f} s"
        )
    return end


def _first_stamp(container: InputContainer, stream: VideoStream, first: int) -> int:
    """Decoding time of the first packet that holds a frame: AVI fills a late start with empty ones."""
    return next((p.dts for p in packets_of(container, stream) if p.dts is not None), first)
