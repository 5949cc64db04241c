"""Clips on the fly: the window of frames that ends at a scored moment, and everything known about that moment.

The window is causal: its last frame is the labelled one, as at the operating table, where the future is not known.
Before the case begins it is filled with the first frame, on the left, so that order is kept; `valid_T` marks the
filling. Letters: T frames of a window, N scored moments, H, W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.benchmarks.dense import read_depth, read_mask
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.decode import probe, read_frames
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits, Size, UnreadableVideo, VideoInfo
from surgmotion_jax.data.sample import Sample
from surgmotion_jax.data.still import IMAGE_ERRORS, displayed_size

EPSILON_S = 1e-6
"""Two times closer than this are one: times come from text and from divisions."""

LATE_S = 0.1
"""A last annotation may lie one frame after the end of a video, if the frame is no longer than this."""

BLOCK = 64
"""Moments whose windows are read together by `ClipReader.case_samples`."""


def window_times(case: Case, time: float, frames: int, fps: float | None) -> tuple[np.ndarray, np.ndarray]:
    """When the frames of the window ending at `time` are on display.

    Args:
        case: only its scored moments matter: `time` must be one of them.
        time: seconds from the start of the case.
        frames: T.
        fps: frames of the window per second; None spreads them evenly from the start of the case to `time`.

    Returns:
        float64 [T] seconds from the start of the case, ascending, the last exactly `time`; bool [T], False for
        the first frame repeated where the window reaches back before the start.

    Raises:
        ValueError: a moment that is not scored, fewer than one frame, a rate that is not positive.
    """
    moment(case, time)
    if frames < 1 or (fps is not None and not (fps > 0 and math.isfinite(fps))):
        raise ValueError(f"a window of {frames} frames at {fps} fps; ask for at least 1 frame and a positive rate")
    back_T = np.arange(frames - 1, -1, -1)
    if fps is None:
        steps = max(frames - 1, 1)
        return time * (steps - back_T) / steps, np.ones(frames, bool)
    time_T = time - back_T / fps
    valid_T = time_T > -EPSILON_S
    return np.where(valid_T, np.maximum(time_T, 0.0), 0.0), valid_T


def moment(case: Case, time: float) -> int:
    """Number of the scored moment at `time`. Raises ValueError where nothing is scored then."""
    row = int(np.searchsorted(case.times_N, time - EPSILON_S))
    if row == len(case.times_N) or abs(case.times_N[row] - time) > EPSILON_S:
        raise ValueError(f"case {case.id!r} has no label at {time:g} s; ask for one of its {len(case.times_N)} times_N")
    return row


@dataclass(frozen=True, eq=False)
class ClipReader:
    """Makes samples from (case, time). Cheap to build and to send to another process.

    Holds what it learnt about opened files, and nothing of their frames.
    """

    frames: int  # T of a window
    fps: float | None = 1.0  # of a window; None spreads it over the case up to the moment
    size: Size = None  # as in data.media: (height, width), a short side, or None for the stored size
    dataset: str = "benchmark"  # name that the samples carry
    limits: Limits = DEFAULT_LIMITS
    _infos: dict[str, VideoInfo] = field(default_factory=dict, init=False, repr=False)

    def sample(self, case: Case, time: float) -> Sample:
        """The clip that ends at a scored moment, with its labels, mask and depth.

        Raises:
            ValueError: a moment that is not scored.
            BenchmarkError: a moment after the end of the frames, a frame that cannot be read, a mask or depth map
                of another size than the frame.
        """
        time_T, valid_T = window_times(case, time, self.frames, self.fps)
        return self._label(case, moment(case, time), time_T, valid_T, self._read(case, time_T))

    def case_samples(self, case: Case) -> Iterator[Sample]:
        """`sample` of every scored moment of a case in order, each frame decoded once: the quick way through a case."""
        held: dict[float, np.ndarray] = {}
        for start in range(0, len(case.times_N), BLOCK):
            moments = range(start, min(start + BLOCK, len(case.times_N)))
            windows = [window_times(case, float(case.times_N[n]), self.frames, self.fps) for n in moments]
            wanted = sorted({self._key(case, t) for time_T, _ in windows for t in time_T})
            held = {t: held[t] for t in wanted if t in held}
            missing = [t for t in wanted if t not in held]
            if missing:
                held |= zip(missing, self._read(case, missing), strict=True)
            for n, (time_T, valid_T) in zip(moments, windows, strict=True):
                video = np.stack([held[self._key(case, t)] for t in time_T])
                yield self._label(case, n, time_T, valid_T, video)

    def info(self, case: Case) -> VideoInfo:
        """What opening the frames of a case tells. Raises BenchmarkError where they cannot be opened."""
        if case.id not in self._infos:
            frames = case.frames
            try:
                if isinstance(frames, ImageFrames):
                    found = image_info(frames, self.limits)
                else:
                    found = probe(str(frames.path), self.limits).within(frames.start_s, frames.end_s)
            except UnreadableVideo as error:
                raise _unreadable(error) from None
            self._infos[case.id] = found
        return self._infos[case.id]

    def duration(self, case: Case) -> float:
        """Seconds from the start of the case to the end of its last frame."""
        info = self.info(case)
        if isinstance(case.frames, ImageFrames):
            return info.duration_s
        return min(case.frames.end_s, info.duration_s) - case.frames.start_s

    def require_frame(self, case: Case, time: float) -> None:
        """Raises BenchmarkError where the frames of a case end before `time`.

        At the end of a video one frame is allowed: containers and annotators count the last one differently.
        """
        info, duration = self.info(case), self.duration(case)
        late = min(1 / info.fps, LATE_S) if not isinstance(case.frames, ImageFrames) else 0.0
        if time > duration + late - EPSILON_S:
            found = f"an annotation at {time:g} s, but frames only until {duration:g} s"
            asks = "annotations within the frames"
            raise BenchmarkError(info.path, found, asks, "restore the frames or the annotation", at=f"case {case.id}")

    def _key(self, case: Case, time: float) -> float:
        """Times of one image, or within one microsecond, are one frame."""
        info = self.info(case)
        if isinstance(case.frames, ImageFrames):
            return float(info.tick(time) * info.time_base)
        return round(time / EPSILON_S) * EPSILON_S

    def _read(self, case: Case, time_T: Sequence[float] | np.ndarray) -> np.ndarray:
        info = self.info(case)
        self.require_frame(case, float(time_T[-1]))
        start = 0.0 if isinstance(case.frames, ImageFrames) else case.frames.start_s
        try:
            return read_frames(info.path, [start + float(t) for t in time_T], self.size, info=info, limits=self.limits)
        except UnreadableVideo as error:
            raise _unreadable(error) from None

    def _label(self, case: Case, row: int, time_T: np.ndarray, valid_T: np.ndarray, video: np.ndarray) -> Sample:
        info, (height, width) = self.info(case), video.shape[1:3]
        stored = (info.height, info.width)
        masks, depth = {}, None
        if case.masks:
            masks["mask"] = read_mask(case.masks[row], stored, (height, width), self.limits)
        if case.depths:
            depth = np.full((len(video), height, width), np.nan, np.float32)
            depth[-1] = read_depth(case.depths[row], case.depth_scale, stored, (height, width), self.limits)
        labels = {name: values[row] if values.ndim > 1 else values[row].item() for name, values in case.labels.items()}
        return Sample(self.dataset, case.id, float(time_T[0]), video, valid_T, None, labels, masks, depth)


def image_info(frames: ImageFrames, limits: Limits = DEFAULT_LIMITS) -> VideoInfo:
    """An image sequence as an opened video. Raises BenchmarkError where there is none or the first does not open."""
    if not frames.paths:
        raise BenchmarkError("(no file)", "a case without images", "at least one image", "remove the case")
    first = frames.paths[0]
    try:
        with Image.open(first) as image:
            limits.check_pixels(str(first), *image.size)
            width, height = displayed_size(image)
    except FileNotFoundError:
        raise BenchmarkError(first, "no such file", "a frame", "extract it again") from None
    except UnreadableVideo as error:
        raise _unreadable(error) from None
    except IMAGE_ERRORS as error:
        raise BenchmarkError(first, f"no picture ({error})", "a frame", "extract it again") from None
    base = 1 / Fraction(frames.fps).limit_denominator(1_000_000)
    names = tuple(_name_in(path, first.parent) for path in frames.paths)
    return VideoInfo(str(first.parent), len(names) / frames.fps, frames.fps, width, height, base, 0, names)


def _name_in(path: Path, folder: Path) -> str:
    return path.name if path.parent == folder else str(path.absolute())


def _unreadable(error: UnreadableVideo) -> BenchmarkError:
    return BenchmarkError(error.path, error.reason, "frames that can be decoded", "get or extract the file again")
