"""Light on what is seen: a lamp at the lens or above the table, wet glints, metal, shadows of the instruments.

Colour is linear here: sRGB squared on the way in, square root on the way out. Letters: P pixels, N some of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Script
from surgmotion_jax.simulate.dense import Sight
from surgmotion_jax.simulate.instruments import Pose


@dataclass(frozen=True)
class Lamp:
    """How a specialty lights its field."""

    offset: tuple[float, float, float]  # views from the camera: right, up, back; the lamp of the lens
    exposure: float
    falloff: float  # exponent of distance
    ambient: float  # share of light from everywhere
    vignette: float  # share of light lost in the corners
    glint: float  # of wet tissue
    shadow: float  # depth of shadows, 0..1
    tint: tuple[float, float, float]


_LAMPS = {
    "laparoscopic": Lamp((-0.10, 0.16, 0.0), 1.75, 1.8, 0.14, 0.55, 1.0, 0.60, (1.0, 0.96, 0.93)),
    "endoscopic": Lamp((0.04, 0.05, 0.0), 1.35, 2.1, 0.12, 0.40, 1.0, 0.40, (1.0, 0.97, 0.90)),
    "open": Lamp((-1.4, 1.6, 0.4), 1.35, 0.0, 0.20, 0.20, 0.5, 0.65, (1.0, 0.99, 0.95)),
    "microscopic": Lamp((0.9, 1.2, 0.0), 1.25, 0.0, 0.22, 0.60, 0.6, 0.50, (1.0, 0.96, 0.86)),
}


def lit(script: Script, sight: Sight) -> np.ndarray:
    """float32 [P, 3] sRGB 0..1: the frame as a clean lens and a noiseless sensor would show it."""
    lamp = _LAMPS[script.config.specialty]
    view = script.view
    camera = sight.camera
    source_3 = camera.position_3 + camera.axes_3x3 @ (np.asarray(lamp.offset) * view)
    point = sight.point_3xP
    to_lamp = source_3.astype(np.float32)[:, None] - point
    distance2 = _dot(to_lamp, to_lamp)
    to_lamp *= 1 / np.sqrt(distance2)
    length2 = _dot(sight.ray_3xP, sight.ray_3xP)
    to_eye = sight.ray_3xP * (-1 / np.sqrt(length2))
    power = np.full(distance2.shape, lamp.exposure, np.float32)
    if lamp.falloff:
        distance = script.focal / script.config.zoom * view  # of the camera at rest
        usual2 = np.float32(distance**2 + (np.asarray(lamp.offset) ** 2).sum() * view**2)
        power *= np.minimum(usual2 / distance2, 3) ** np.float32(lamp.falloff / 2)
    # Off the axis the lens takes less light; the corner of the picture is the reference.
    power *= 1 - np.float32(lamp.vignette) * (length2 - 1) / (length2.max() - 1)

    facing = np.maximum(_dot(sight.normal_3xP, to_lamp), 0)
    shade = lamp.ambient + (1 - lamp.ambient) * facing * _unshadowed(sight, view, point, to_lamp, lamp.shadow)
    colour = np.square(sight.colour_Px3 * np.float32(1 / 255)) * np.asarray(lamp.tint, np.float32)
    picture = colour * (shade * power)[:, None]
    half = to_lamp + to_eye
    half /= np.sqrt(_dot(half, half))
    strength = script.config.strength("glint")
    glint = lamp.glint * min(1.0, 1.6 * strength) * max(1.0, strength)
    picture += (_wet(sight, half, glint) * power)[:, None]
    steel = np.flatnonzero(sight.label_P)
    if steel.size:
        picture[steel] = _metal(sight, steel, colour[steel], half, to_eye) * np.minimum(power[steel], 3.5)[:, None]
    return np.sqrt(1 - np.exp(-picture))


def _wet(sight: Sight, half_3xP: np.ndarray, strength: float) -> np.ndarray:
    """Reflection [P] of the lamp in the film on the tissue, whose ripples scatter it into glints."""
    if strength <= 0:
        return np.zeros(sight.depth_P.shape, np.float32)
    gloss = sight.tissue_Px8[:, 5]
    bend = np.float32(0.10)
    nx = sight.normal_3xP[0] - bend * sight.tissue_Px8[:, 6]
    ny = sight.normal_3xP[1] - bend * sight.tissue_Px8[:, 7]
    nz = sight.normal_3xP[2]
    cosine = (nx * half_3xP[0] + ny * half_3xP[1] + nz * half_3xP[2]) / np.sqrt(nx * nx + ny * ny + nz * nz)
    cosine = np.maximum(cosine, 0)
    broad = _power(cosine, 5)
    sharp = np.square(np.square(broad))
    sharp = np.square(sharp)
    return np.float32(strength) * gloss * (np.float32(0.035) * broad + np.float32(1.3) * sharp)


def _metal(sight: Sight, index: np.ndarray, colour: np.ndarray, half: np.ndarray, to_eye: np.ndarray) -> np.ndarray:
    """Shafts and steel [N, 3]: darker towards the outline, a bright line where the lamp is reflected."""
    normal = sight.normal_3xP[:, index]
    facing = np.maximum(_dot(normal, to_eye[:, index]), 0)
    bright = np.maximum(_dot(normal, half[:, index]), 0)
    room = np.float32(0.5) + np.float32(0.5) * np.sin(normal[0] * 4 + normal[1] * 7)
    diffuse = 0.12 + 0.62 * facing * np.sqrt(facing) + 0.16 * room
    line = 0.75 * _power(bright, 5) + 0.10 * _power(bright, 2)
    return colour * (diffuse + 1.2 * line)[:, None] + (0.30 * line * line)[:, None]


def _unshadowed(
    sight: Sight, view: float, point_3xP: np.ndarray, to_lamp_3xP: np.ndarray, deep: float
) -> np.ndarray | float:
    """Share [P] of the lamp's light that the instruments let through; soft at the edges."""
    through: np.ndarray | float = 1.0
    for pose in sight.poses.values():
        share = np.float32(deep) * _covered(pose, view, point_3xP, to_lamp_3xP)
        through = through * (1 - np.where(sight.slot_P == pose.slot + 1, 0, share))
    return through


def _covered(pose: Pose, view: float, point_3xP: np.ndarray, to_lamp_3xP: np.ndarray) -> np.ndarray:
    """How much of an instrument lies on the line from each point to the lamp, 0..1."""
    back = -pose.axes_3x3x3[0][:, 2].astype(np.float32)
    away = point_3xP - pose.origin_3x3[0].astype(np.float32)[:, None]
    lean = to_lamp_3xP[0] * back[0] + to_lamp_3xP[1] * back[1] + to_lamp_3xP[2] * back[2]
    along = away[0] * back[0] + away[1] * back[1] + away[2] * back[2]
    rise = _dot(away, to_lamp_3xP)
    up = (along - lean * rise) / np.maximum(1 - lean * lean, np.float32(1e-3))
    up = np.clip(up, 0, np.float32(1.5 * view))
    reach = np.maximum(lean * up - rise, 0)
    off2 = sum(np.square(away[k] + reach * to_lamp_3xP[k] - up * back[k]) for k in range(3))
    # Jaws are thinner than the shaft; far above the tissue the shadow is softer.
    wide = np.float32(pose.radius) * (0.55 + np.minimum(up / np.float32(10 * pose.radius), 0.6)) + 0.10 * reach
    return 1 / (1 + np.square(off2 / (wide * wide)))


def _dot(a_3xN: np.ndarray, b_3xN: np.ndarray) -> np.ndarray:
    return a_3xN[0] * b_3xN[0] + a_3xN[1] * b_3xN[1] + a_3xN[2] * b_3xN[2]


def _power(base: np.ndarray, doublings: int) -> np.ndarray:
    """base ** (2 ** doublings)."""
    for _ in range(doublings):
        base = base * base
    return base
