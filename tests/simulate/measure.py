"""Skill as it shows in the paths of tool tips: how far, how jerkily, how often they rest.

Letters: T frames, M instruments, D coordinates, N samples of one stretch in which a tip is seen throughout.
"""

from __future__ import annotations

import numpy as np

SHORTEST_S = 1.0  # stretches in view that are briefer are left out
_SMOOTH_S = 0.4  # the mean over this long, taken twice, is free of tremor


def motion_measures(tracks_TxMxD: np.ndarray, fps: float, still: float) -> dict[str, float]:
    """Measures over all instruments of a case, each moment of each instrument counting alike.

    Args:
        tracks_TxMxD: tip positions, in pixels or mm; NaN where an instrument is not seen.
        fps: frames per second.
        still: speed in the same unit per second below which a hand rests, its tremor aside.

    Returns:
        path_length: length of the path per second in which the hand does not rest.
        jerk: log10 of the median size of the third derivative over that time.
        smoothness: minus the log of the dimensionless squared jerk (Hogan and Sternad, 2009), mean over seconds.
        idle: share of the time in view in which the hand rests.

    Raises:
        ValueError: when the shape is not [T, M, D], or no tip is seen for SHORTEST_S on end.
    """
    if tracks_TxMxD.ndim != 3:
        raise ValueError(f"tracks have shape {tracks_TxMxD.shape}; pass [frames, instruments, coordinates]")
    least = max(5, round(SHORTEST_S * fps))
    stretches = [run for m in range(tracks_TxMxD.shape[1]) for run in _seen(tracks_TxMxD[:, m], least)]
    if not stretches:
        raise ValueError(
            f"no tip is seen in {least} frames on end, so nothing can be measured; pass longer tracks or a higher fps"
        )
    length, jerk_N, rest_N, smooth = 0.0, [], [], []
    for run_NxD in stretches:
        width = max(1, round(_SMOOTH_S * fps))
        rests_N = _speed(_smoothed(_smoothed(run_NxD, width), width), fps) < still
        speed_N = _speed(run_NxD, fps)
        third_N = np.square(np.diff(run_NxD, 3, axis=0) * fps**3).sum(axis=1)
        length += speed_N[~rests_N].sum() / fps
        jerk_N.append(third_N[~rests_N[1:-1]])
        rest_N.append(rests_N)
        smooth += _smoothness(speed_N, third_N, fps)
    rests, squared_jerk = np.concatenate(rest_N), np.concatenate(jerk_N)
    if not len(squared_jerk):
        return {"path_length": 0.0, "jerk": float("-inf"), "smoothness": float(np.mean(smooth)), "idle": 1.0}
    return {
        "path_length": float(length / max((~rests).sum() / fps, 1 / fps)),
        "jerk": float(np.log10(max(np.median(squared_jerk), 1e-300)) / 2),
        "smoothness": float(np.mean(smooth)),
        "idle": float(rests.mean()),
    }


def tip_in_mask(mask_HxW: np.ndarray) -> np.ndarray:
    """Pixel (x, y) of the tip of an instrument, found in its mask alone.

    A shaft comes in from the border of the picture: the pixels furthest from the middle are its entry, and those
    furthest from the entry are the tip. Their mean is finer than a pixel.

    Args:
        mask_HxW: bool, the visible part of one instrument.

    Returns:
        float64 [2], NaN where too little of the instrument is seen.
    """
    y_N, x_N = np.nonzero(mask_HxW)
    height, width = mask_HxW.shape
    if len(x_N) < 1e-3 * height * width:
        return np.full(2, np.nan)
    reach = 0.05 * height
    entry_N = _furthest(x_N, y_N, (width - 1) / 2, (height - 1) / 2, reach)
    end_N = _furthest(x_N, y_N, x_N[entry_N].mean(), y_N[entry_N].mean(), reach)
    return np.array([x_N[end_N].mean(), y_N[end_N].mean()])


def _furthest(x_N: np.ndarray, y_N: np.ndarray, x: float, y: float, reach: float) -> np.ndarray:
    distance_N = np.hypot(x_N - x, y_N - y)
    return distance_N > distance_N.max() - reach


def _seen(track_TxD: np.ndarray, least: int) -> list[np.ndarray]:
    seen_T = np.isfinite(track_TxD).all(axis=1)
    edges = np.flatnonzero(np.diff(seen_T.astype(np.int8), prepend=0, append=0))
    return [track_TxD[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least]


def _smoothed(track_NxD: np.ndarray, width: int) -> np.ndarray:
    padded_NxD = np.pad(track_NxD, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    sums_NxD = np.cumsum(np.pad(padded_NxD, ((1, 0), (0, 0))), axis=0)
    return (sums_NxD[width:] - sums_NxD[:-width]) / width


def _speed(track_NxD: np.ndarray, fps: float) -> np.ndarray:
    return np.linalg.norm(np.diff(track_NxD, axis=0), axis=1) * fps


def _smoothness(speed_N: np.ndarray, squared_jerk_N: np.ndarray, fps: float) -> list[float]:
    """Second by second: - log(integral of squared jerk x duration^5 / length^2)."""
    span = max(4, round(fps))
    found = []
    for start in range(0, len(squared_jerk_N) - span + 1, span):
        seconds = span / fps
        length = speed_N[start : start + span].mean() * seconds
        jerk = squared_jerk_N[start : start + span].mean() * seconds
        if length > 0 and jerk > 0:
            found.append(-float(np.log(jerk * seconds**5 / length**2)))
    return found or [0.0]
