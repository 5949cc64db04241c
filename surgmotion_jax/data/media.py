"""What every readable video has in common, whether a container file or a folder of images.

Time runs in ticks: whole multiples of `time_base` seconds, counted as the container counts them. A frame is on
display from its own tick until the next frame's. Letters: N frames of a video, T frames asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from surgmotion_jax.data.look import Look

_SLACK_S = 1e-3

Size = tuple[int, int] | int | None
"""Output size: (height, width), or the short side, or None to keep the stored one."""


class UnreadableVideo(ValueError):
    """A file that holds no usable video; the message names it and says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableVideo], tuple[str, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class Limits:
    """Caps that keep a hostile or broken file from taking the machine."""

    max_pixels: int = 36_000_000  # width x height of a frame
    max_duration_s: float = 86_400.0  # seconds of video
    max_streams: int = 32  # streams in a container
    recheck: bool = True  # whether packets are decoded a second time where decoders overlook damage

    def check_pixels(self, path: str, width: int, height: int) -> None:
        """Raises UnreadableVideo when a frame of this size may not be decoded."""
        if width < 1 or height < 1:
            raise UnreadableVideo(path, f"frames of {width} x {height} pixels")
        if width * height > self.max_pixels:
            raise UnreadableVideo(
                path, f"frames of {width} x {height} pixels are over the cap, max_pixels = {self.max_pixels}"
            )

    def check_duration(self, path: str, duration_s: float) -> None:
        """Raises UnreadableVideo when a video of this length may not be decoded."""
        if not duration_s <= self.max_duration_s:
            raise UnreadableVideo(
                path,
                f"{duration_s:.0f} s of video are over the cap, max_duration_s = {self.max_duration_s:g}",
            )


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Take:
    """A part of a file that was recorded in one go: one picture size, and time stamps that go on."""

    start_s: float  # seconds of the file, whose takes follow one another
    end_s: float
    origin: int  # tick of its first frame
    look: Look
    reason: str  # what sets it off from the take before
    keyframes: tuple[tuple[int, int], ...]  # (tick, byte) of some of its keyframes, the first among them, ascending
    end: int | None  # byte at which the next take begins


@dataclass(frozen=True)
class VideoInfo:
    """What opening a video tells, checked against the data and not taken from the header alone."""

    path: str  # the file or frame folder
    duration_s: float  # from the first frame to the end of the last
    fps: float  # average frames per second
    width: int  # pixels, as displayed
    height: int  # pixels
    time_base: Fraction  # seconds per tick
    origin: int  # tick of the first frame, which is on display from `start_s`
    images: tuple[str, ...] = ()  # names of the images in display order; empty for a container file
    look: Look | None = None  # how pictures are stored; None where each file of a picture tells
    takes: tuple[Take, ...] = ()  # empty for a file of one take
    start_s: float = 0.0  # seconds of the file at `origin`: above 0 for a later take
    following: int | None = None  # byte at which another movie begins, which no decoder sees

    @property
    def frames(self) -> int:
        """Estimated number of frames; exact for a frame folder."""
        return len(self.images) or max(1, round(self.duration_s * self.fps))

    @property
    def borders_s(self) -> tuple[tuple[float, float], ...]:
        """Seconds from and to which the file was recorded in one go: what no clip straddles."""
        return tuple((take.start_s, take.end_s) for take in self.takes) or ((0.0, self.duration_s),)

    def take(self, time_s: float) -> int:
        """Number of the take on display at `time_s` seconds; 0 for a file of one take."""
        begun = sum(take.start_s <= time_s + _SLACK_S for take in self.takes)
        return max(0, begun - 1)

    def within(self, start_s: float, end_s: float) -> VideoInfo:
        """What is known of the take that holds the seconds from `start_s` to `end_s`.

        Raises UnreadableVideo where they reach over a border: a clip would show two scenes as one.
        """
        first, last = self.take(start_s), self.take(max(start_s, min(end_s, self.duration_s) - 2 * _SLACK_S))
        if not self.takes or (first == last and len(self.takes) == 1):
            return self
        if first != last:
            pieces = "; ".join(f"{take.start_s:.2f} to {take.end_s:.2f} s ({take.reason})" for take in self.takes)
            raise UnreadableVideo(
                self.path,
                f"{len(self.takes)} takes in one file: {pieces}; list each with its start and end in a CSV, or cut the "
                "file there",
            )
        take = self.takes[first]
        height, width = take.look.size
        return dataclasses.replace(
            self,
            start_s=take.start_s,
            duration_s=take.end_s,
            width=width,
            height=height,
            origin=take.origin,
            look=take.look,
            takes=(take,),
        )

    def tick(self, time_s: float) -> int:
        """The tick at `time_s` seconds; a time past the end is the end.

        Half a tick (at most 1 ms) of slack is added, since a container rounds frame times to ticks: at 30 fps
        in milliseconds the second frame is stamped 33, and is due at 33.3; the third is stamped 67 but is due
        at 66.7, and without slack would be missed.
        """
        slack_s = min(float(self.time_base) / 2, _SLACK_S)
        return self.origin + math.floor((min(time_s, self.duration_s) - self.start_s + slack_s) / float(self.time_base))

    def output_size(self, size: Size) -> tuple[int, int]:
        """(height, width) that `size` asks for; a short side keeps the shape, rounding the long one."""
        if size is None:
            return self.height, self.width
        if isinstance(size, tuple):
            return size
        scale = size / min(self.height, self.width)
        return max(size, round(self.height * scale)), max(size, round(self.width * scale))


def covering(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) to which a picture of `size` is scaled so that it just covers the canvas."""
    scale = max(canvas[0] / size[0], canvas[1] / size[1])
    return max(canvas[0], round(size[0] * scale)), max(canvas[1], round(size[1] * scale))


@dataclass(frozen=True, eq=False)
class FrameTable:
    """A whole decoded video: `at` answers exactly what reading the file would."""

    info: VideoInfo
    tick_N: np.ndarray  # int64, ascending
    video_NxHxWx3: np.ndarray  # uint8

    def at(self, times_s: Sequence[float]) -> np.ndarray:
        """Frames on display at `times_s`, uint8 [T, H, W, 3]."""
        tick_T = np.array([self.info.tick(time_s) for time_s in times_s], np.int64)
        row_T = np.searchsorted(self.tick_N, tick_T, side="right") - 1
        return self.video_NxHxWx3[np.maximum(row_T, 0)]


def check_times(times_s: Sequence[float]) -> None:
    """Raises ValueError unless the times are some, finite, not negative and in order."""
    good = len(times_s) > 0 and all(math.isfinite(t) and t >= 0 for t in times_s)
    if not good or any(later < earlier for earlier, later in pairwise(times_s)):
        raise ValueError(f"times_s: found {list(times_s)}, allowed are seconds of at least 0, in ascending order")
