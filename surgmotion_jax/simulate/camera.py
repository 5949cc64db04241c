"""A camera held by hand, endoscope or stand: where it is and how it is turned, smoothly, at any time.

Letters: T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.specialty import Specialty
from surgmotion_jax.simulate.waves import Waves, draw_waves, smoothstep

_PAUSE_S = (4.0, 12.0)  # between two changes of view
_PAN_S = (1.5, 3.0)  # and how long a change takes


@dataclass(frozen=True, eq=False)
class CameraPath:
    """What the camera does in one operation. Letters: V views."""

    specialty: Specialty
    start_V: np.ndarray  # seconds: when the camera leaves for the next view; the first is before the operation
    pan_V: np.ndarray  # seconds it takes
    aim_Vx3: np.ndarray  # where it then looks (x, y in mm) and how far in it then goes (share of the distance)
    sway: Waves  # x, y, in and out, roll
    shake: Waves  # x, y
    strength: float  # of sway and shake

    def __call__(self, time_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position [T, 3] in mm and angles [T, 3] in radians (pitch, yaw, roll) at times in seconds."""
        kind, sway_Tx4 = self.specialty, self.strength * self.sway(time_T)
        aim_Tx3 = self._aim(time_T)
        aim_Tx3[:, :2] += kind.view * (kind.drift * sway_Tx4[:, :2] + 0.0015 * self.strength * self.shake(time_T))
        distance_T = kind.distance * (1 - kind.advance * np.clip(aim_Tx3[:, 2] + 0.5 * sway_Tx4[:, 2], -1, 1))
        position_Tx3 = np.stack(
            [aim_Tx3[:, 0], aim_Tx3[:, 1] - distance_T * np.sin(kind.tilt), distance_T * np.cos(kind.tilt)], axis=1
        )
        roll_T = kind.roll * sway_Tx4[:, 3]
        return position_Tx3, np.stack([np.full_like(roll_T, kind.tilt), np.zeros_like(roll_T), roll_T], axis=1)

    def _aim(self, time_T: np.ndarray) -> np.ndarray:
        steps_Vx3 = np.diff(self.aim_Vx3, axis=0, prepend=self.aim_Vx3[:1])
        share_TxV = smoothstep((time_T[:, None] - self.start_V) / self.pan_V)
        return self.aim_Vx3[0] + share_TxV @ steps_Vx3


def draw_camera(
    specialty: Specialty, seconds: float, sites_Kx3: np.ndarray, difficulty: float, rng: np.random.Generator
) -> CameraPath:
    """A path for an operation of `seconds`: views now on one of the sites, now on all of them, with sway between."""
    starts, time = [-10.0], float(rng.uniform(*_PAUSE_S))
    while time < seconds:
        starts.append(time)
        time += float(rng.uniform(*_PAUSE_S))
    aims = [np.zeros(3)]
    for _ in starts[1:]:
        follow = rng.random() < specialty.follow
        target_2 = sites_Kx3[rng.integers(len(sites_Kx3)), :2] * rng.uniform(0.2, 0.5)
        inward = rng.uniform(-0.4, 1.0)
        aims.append(np.array([*target_2, inward]) if follow else aims[-1])
    return CameraPath(
        specialty,
        np.array(starts),
        rng.uniform(*_PAN_S, len(starts)),
        np.stack(aims),
        sway=draw_waves(rng, 0.02, 0.12, axes=4),
        shake=draw_waves(rng, 0.4, 1.5, axes=2),
        strength=0.5 + difficulty,
    )
