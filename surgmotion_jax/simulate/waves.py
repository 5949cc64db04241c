"""Smooth random functions of time, defined between the frames, so that every frame rate samples the same motion.

Letters: T times, A axes, C components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Waves:
    """A sum of sines on each axis, of unit root mean square over a long time."""

    hertz_CxA: np.ndarray
    turn_CxA: np.ndarray  # where each sine starts, in cycles

    def __call__(self, time_T: np.ndarray) -> np.ndarray:
        """Values [T, A] at times in seconds."""
        cycles_TxCxA = time_T[:, None, None] * self.hertz_CxA + self.turn_CxA
        return np.sin(2 * np.pi * cycles_TxCxA).sum(1) * np.sqrt(2 / len(self.hertz_CxA))


def draw_waves(rng: np.random.Generator, low: float, high: float, axes: int, components: int = 5) -> Waves:
    """Waves with frequencies between `low` and `high` Hz."""
    return Waves(rng.uniform(low, high, (components, axes)), rng.random((components, axes)))


def smoothstep(share: np.ndarray | float) -> np.ndarray:
    """0 up to share 0, 1 from share 1, between them the path of least jerk (Flash and Hogan, 1985)."""
    inside = np.clip(share, 0.0, 1.0)
    return inside**3 * (10 + inside * (6 * inside - 15))
