"""What every readable video has in common, whether a container file or a folder of images.

Time runs in ticks: whole multiples of `time_base` seconds, counted as the container counts them. A frame is on
display from its own tick until the next frame's. Letters: N frames of a video, T frames asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

Size = tuple[int, int] | int | None
"""Output size: (height, width), or the short side, or None to keep the stored one."""


class UnreadableVideo(ValueError):
    """A file that holds no usable video; the message names it and says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["UnreadableVideo"], tuple[str, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class Limits:
    """Caps that keep a hostile or broken file from taking the machine."""

    max_pixels: int = 36_000_000  # width x height of a frame
    max_duration_s: float = 86_400.0  # seconds of video
    max_streams: int = 32  # streams in a container

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
class VideoInfo:
    """What opening a video tells, checked against the data and not taken from the header alone."""

    path: str  # the file or frame folder
    duration_s: float  # from the first frame to the end of the last
    fps: float  # average frames per second
    width: int  # pixels, as stored: rotation flags are ignored
    height: int  # pixels
    time_base: Fraction  # seconds per tick
    origin: int  # tick of the first frame, which is time 0
    images: tuple[str, ...] = ()  # names of the images in display order; empty for a container file

    @property
    def frames(self) -> int:
        """Estimated number of frames; exact for a frame folder."""
        return len(self.images) or max(1, round(self.duration_s * self.fps))

    def tick(self, time_s: float) -> int:
        """The tick at `time_s` seconds; a time past the end is the end.

        Half a tick (at most 1 ms) of slack is added, since a container rounds frame times to ticks: at 30 fps
        in milliseconds the second frame is stamped 33, and is due at 33.3; the third is stamped 67 but is due
        at 66.7, and without slack would be missed.
        """
        slack_s = min(float(self.time_base) / 2, 1e-3)
        return self.origin + math.floor((min(time_s, self.duration_s) + slack_s) / float(self.time_base))

    def output_size(self, size: Size) -> tuple[int, int]:
        """(height, width) that `size` asks for; a short side keeps the shape, rounding the long one."""
        if size is None:
            return self.height, self.width
        if isinstance(size, tuple):
            return size
        scale = size / min(self.height, self.width)
        return max(size, round(self.height * scale)), max(size, round(self.width * scale))


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
