"""When the picture is spoilt: smoke, blood, fluid, dirt on the lens, changes of light, the camera outside the body.

Everything is drawn in seconds and independent of what is done, so none of it tells phase or verb. Letters: T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import SceneConfig
from surgmotion_jax.simulate.waves import draw_waves, smoothstep

OUTSIDE_KINDS = ("laparoscopic", "endoscopic")  # an open wound and a microscope's field have no outside
_OUTSIDE_S = (1.2, 3.0)


@dataclass(frozen=True, eq=False)
class Nuisances:
    """Schedules over T times; `smoke_T` and the rest as in `Script`."""

    smoke_T: np.ndarray
    blood_T: np.ndarray
    fluid_T: np.ndarray
    smudge_T: np.ndarray
    brightness_T: np.ndarray
    out_of_body_T: np.ndarray


def draw_nuisances(config: SceneConfig, time_T: np.ndarray, rng: np.random.Generator) -> Nuisances:
    """Schedules of one operation; all are at rest for strength 0.

    What there is not is drawn all the same, so that the others go as they would beside it.
    """
    specialty, seconds, strength = config.specialty, config.seconds, config.nuisance
    outside_T, smudge_T = np.zeros(len(time_T), bool), np.zeros(len(time_T))
    smoke_T = _bursts(time_T, seconds, 25.0, (0.5, 6.0), rng)
    fluid_T = _bursts(time_T, seconds, 30.0, (0.3, 4.0), rng)
    blood_T = _bursts(time_T, seconds, 35.0, (3.0, 40.0), rng)
    for start in _moments(seconds, 60.0, rng):  # dirt stays until the lens is wiped
        wiped = start + rng.exponential(30.0)
        size = rng.uniform(0.3, 1.0)
        on_T = smoothstep((time_T - start) / 0.3) - smoothstep((time_T - wiped) / 0.5)
        smudge_T = np.maximum(smudge_T, size * on_T)
    for start in _moments(seconds, 240.0 / max(strength, 1e-3), rng):
        end = start + rng.uniform(*_OUTSIDE_S)
        if specialty in OUTSIDE_KINDS and 0.1 * seconds < start and end < 0.9 * seconds and seconds >= 30:
            outside_T |= (time_T >= start) & (time_T < end)
    return Nuisances(
        config.strength("smoke") * smoke_T,
        np.minimum(config.strength("blood") * blood_T, 1.0),
        np.minimum(config.strength("fluid") * fluid_T, 1.0),
        np.minimum(config.strength("smudge") * smudge_T, 1.0),
        np.exp(config.strength("brightness") * _log_light(time_T, seconds, rng)),
        outside_T & (config.strength("outside") > 0),
    )


def _log_light(time_T: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    flicker_T = 0.03 * draw_waves(rng, 1.0, 5.0, axes=1)(time_T)[:, 0]
    slow_T = 0.1 * draw_waves(rng, 0.02, 0.2, axes=1)(time_T)[:, 0]
    step_T, before = np.zeros(len(time_T)), 0.0
    for start in _moments(seconds, 40.0, rng):  # the lamp or the camera's gain is changed
        level = rng.uniform(-0.4, 0.3)
        step_T += (level - before) * smoothstep((time_T - start) / 0.2)
        before = level
    return flicker_T + slow_T + step_T


def _bursts(
    time_T: np.ndarray, seconds: float, mean_gap: float, rise_and_decay: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Sudden rises, each of a random height, that linger and die away; 0..1."""
    rise, decay = rise_and_decay
    total_T = np.zeros(len(time_T))
    for start in _moments(seconds, mean_gap, rng):
        height = rng.uniform(0.3, 1.0)
        fading_T = np.exp(-np.maximum(time_T - start - rise, 0) / (decay * rng.uniform(0.6, 1.5)))
        total_T += height * smoothstep((time_T - start) / rise) * fading_T
    return 1 - np.exp(-1.5 * total_T)


def _moments(seconds: float, mean_gap: float, rng: np.random.Generator) -> np.ndarray:
    """Times of a Poisson process from 20 s before the operation to its end: what began earlier may still be seen."""
    count = rng.poisson((seconds + 20.0) / mean_gap)
    return np.sort(rng.uniform(-20.0, seconds, count))
