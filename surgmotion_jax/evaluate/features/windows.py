"""Where sliding windows lie in a video, and when each of their tokens is.

Everything here is a pure function of numbers. Letters: W windows, T frames of a window, t tubelet steps of a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_SLACK_S = 1e-6  # times are computed: without slack, rounding could add an empty window


@dataclass(frozen=True)
class WindowPlan:
    """Windows of `frames` frames, `1 / fps` seconds apart; a window starts every `stride_s` seconds."""

    frames: int = 16  # frames per window
    fps: float = 4.0  # frames per second within a window, whatever the video's own rate
    stride_s: float = 4.0  # seconds from the start of a window to the start of the next

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; a window has at least 1 frame")
        for name in ("fps", "stride_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be a finite number above 0")

    @property
    def span_s(self) -> float:
        """Seconds that a window covers: the last frame, too, stands for 1 / fps seconds."""
        return self.frames / self.fps


def plan_windows(frames: int, fps: float, *, stride_s: float | None = None, overlap: float | None = None) -> WindowPlan:
    """A plan from a stride in seconds, or from the fraction of a window that the next one shares; default is neither:
    windows that follow one another.

    Raises ValueError for numbers out of range, or where both are given.
    """
    if stride_s is not None and overlap is not None:
        raise ValueError(f"stride {stride_s:g} s and overlap {overlap:g} are both given; one follows from the other")
    if overlap is not None and not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; it is the shared fraction of a window, in [0, 1)")
    whole = WindowPlan(frames, fps)
    if stride_s is None:
        stride_s = whole.span_s * (1 - (overlap or 0.0))
    return WindowPlan(frames, fps, stride_s)


def window_starts(start_s: float, end_s: float, plan: WindowPlan) -> np.ndarray:
    """Start times in seconds, float64 [W], of the windows over the stretch from `start_s` to `end_s`.

    The first starts at `start_s`. Another follows as long as it would start before the end and the one before
    does not reach the end. So each moment of the stretch lies in a window (unless the stride leaves gaps), at
    most the last window reaches past the end, and a stretch shorter than a window has exactly one.

    Raises ValueError for an empty stretch.
    """
    length = end_s - start_s
    if not length > 0:
        raise ValueError(f"the stretch from {start_s:g} s to {end_s:g} s is empty; its end must come after its start")
    before_end = math.ceil((length - _SLACK_S) / plan.stride_s)
    until_covered = 1 + math.ceil((length - plan.span_s - _SLACK_S) / plan.stride_s)
    count = max(1, min(before_end, until_covered))
    return start_s + plan.stride_s * np.arange(count)


def due_times(start_W: np.ndarray, plan: WindowPlan) -> np.ndarray:
    """Seconds at which each frame is due, float64 [W,T]; those of the last window may lie past the end."""
    return start_W[:, None] + np.arange(plan.frames) / plan.fps


def real_frames(due_WxT: np.ndarray, end_s: float) -> np.ndarray:
    """Which frames are in the video, bool [W,T]: those due at the end or later repeat the last one before it."""
    real_WxT = due_WxT < end_s - _SLACK_S
    real_WxT[:, 0] = True
    return real_WxT


def shown_times(due_WxT: np.ndarray, end_s: float) -> np.ndarray:
    """The times to decode, float64 [W,T]: due times, those past the end replaced by the window's last real one."""
    real_WxT = real_frames(due_WxT, end_s)
    last_W = np.where(real_WxT, due_WxT, -np.inf).max(axis=1)
    return np.minimum(due_WxT, last_W[:, None])


def step_times(due_WxT: np.ndarray, tubelet: int) -> np.ndarray:
    """The time of each token step, float64 [W,t]: the mean of the times at which its frames are due."""
    return _by_step(due_WxT, tubelet).mean(axis=2)


def step_valid(due_WxT: np.ndarray, end_s: float, tubelet: int) -> np.ndarray:
    """Which token steps saw only frames of the video, none repeated past its end: bool [W,t]."""
    return np.asarray(_by_step(real_frames(due_WxT, end_s), tubelet).all(axis=2))


def _by_step(frame_WxT: np.ndarray, tubelet: int) -> np.ndarray:
    """[W,t,frames of a step]; a window shorter than a tubelet is one step."""
    windows, frames = frame_WxT.shape
    per_step = min(tubelet, frames)
    steps = frames // per_step
    return frame_WxT[:, : steps * per_step].reshape(windows, steps, per_step)
