"""Structures with a place: what the instruments work on, the lesion, and where blood will pool.

Letters: K target structures, S samples along a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.noise import octaves, smooth_noise, smoothstep
from surgmotion_jax.simulate.tissue import Colour, Patch


@dataclass(frozen=True)
class Lesion:
    """A polyp-like bump: middle (from the patch's middle) and radius in mm."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class _Shape:
    """One kind of target structure. Half-axes and height are shares of its room."""

    long: float
    wide: float
    tall: float


_SHAPES = (
    _Shape(1.15, 0.66, 0.55),  # a bladder
    _Shape(1.35, 0.26, 0.24),  # a duct
    _Shape(1.35, 0.20, 0.20),  # an artery
    _Shape(0.80, 0.70, 0.34),  # a node
    _Shape(1.05, 0.85, 0.14),  # a plate of fascia
    _Shape(0.95, 0.70, 0.36),  # a lobe
    _Shape(0.90, 0.60, 0.28),  # a gland
    _Shape(1.30, 0.34, 0.30),  # a loop
)

# By specialty, in the order of the shapes.
_COLOURS: dict[str, tuple[Colour, ...]] = {
    "laparoscopic": (
        (122, 132, 86), (206, 172, 140), (168, 36, 38), (196, 116, 92),
        (216, 184, 166), (222, 176, 96), (112, 46, 54), (214, 134, 122),
    ),
    "endoscopic": (
        (198, 84, 74), (232, 178, 148), (170, 44, 48), (214, 104, 84),
        (228, 196, 168), (222, 166, 110), (150, 58, 62), (206, 120, 108),
    ),
    "open": (
        (128, 70, 60), (214, 176, 140), (132, 26, 32), (190, 108, 84),
        (212, 170, 156), (216, 166, 92), (102, 40, 48), (204, 118, 104),
    ),
    "microscopic": (
        (172, 110, 112), (226, 204, 178), (166, 34, 40), (186, 132, 142),
        (230, 214, 198), (216, 182, 122), (138, 62, 74), (206, 140, 124),
    ),
}  # fmt: skip


def add_targets(patch: Patch, rng: np.random.Generator, specialty: str, site_Kx3: np.ndarray, contrast: float) -> None:
    """Adds one structure at each site (mm from the patch's middle) and brings the tissue to the sites' heights.

    Args:
        patch: tissue, changed in place.
        rng: source of shapes and turns.
        specialty: whose colours they have.
        site_Kx3: mm; x, y from the patch's middle, z of the surface there.
        contrast: 0..1, how much of its own colour a structure has.
    """
    room, colours = _room(site_Kx3, patch.view), _COLOURS[specialty]
    rough, mottle = octaves(rng, patch.size, patch.cells(9), 3), octaves(rng, patch.size, patch.cells(22), 3, 0.7)
    for number, (x, y, _) in enumerate(site_Kx3.tolist()):
        shape, turn = _SHAPES[number % len(_SHAPES)], rng.uniform(0, np.pi)
        u, v, window = _turned(patch, x, y, turn, 2.2 * room)
        away = np.hypot(u / (shape.long * room), v / (shape.wide * room)) + 0.09 * rough[window]
        patch.height_SxS[window] += np.exp(-(away**2) * 1.6) * shape.tall * room * shape.wide
        share = (1 - smoothstep(away, 0.62, 1.08)) * (0.9 * contrast + 0.1)
        _tint(patch, window, share * (0.88 + 0.12 * mottle[window]).clip(0, 1), colours[number % len(colours)])
        rim = np.exp(-(((away - 1) / 0.16) ** 2))
        patch.albedo_3xSxS[(slice(None), *window)] *= (1 + 0.06 * share * mottle[window]) * (1 - 0.16 * contrast * rim)
    _meet_heights(patch, site_Kx3, room)


def add_lesion(patch: Patch, rng: np.random.Generator, lesion: Lesion) -> None:
    """Adds the bump, redder than its surroundings and with a finely lobed surface."""
    u, v, window = _turned(patch, lesion.x, lesion.y, 0.0, 2.5 * lesion.radius)
    away = np.hypot(u, v) / np.float32(lesion.radius)
    lobes = smooth_noise(rng, patch.size, patch.cells(24))[window]
    dome = 1 - smoothstep(away, 0.15, 1.2)
    patch.height_SxS[window] += lesion.radius * (0.75 * dome + 0.03 * dome * lobes)
    share = 1 - smoothstep(away, 0.85, 1.02)
    _tint(patch, window, share * 0.55, (196, 70, 66))
    _tint(patch, window, share * smoothstep(lobes, 0.2, 1.6) * 0.35, (238, 180, 160))
    patch.albedo_3xSxS[(slice(None), *window)] *= 1 - 0.14 * np.exp(-(((away - 1.05) / 0.12) ** 2))
    patch.vessel_SxS[window] *= 1 - share


def blood_order(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    """[S, S] in 0..1: a place is under blood once the share of pools formed exceeds it; low places come first."""
    low = -patch.height_SxS / np.float32(patch.height_SxS.std() + 1e-6)
    field = octaves(rng, patch.size, patch.cells(2.2), 3) + 0.35 * low
    # Even at full bleeding most of the tissue stays free.
    return 1 - smoothstep(field, 0.55, 3.0)


def _room(site_Kx3: np.ndarray, view: float) -> float:
    """Half the usual distance between neighbouring structures, within what a picture can hold."""
    if len(site_Kx3) < 2:
        return 0.13 * view
    apart = np.hypot(*(site_Kx3[:, None, :2] - site_Kx3[None, :, :2]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    return float(np.clip(0.5 * np.median(apart.min(axis=1)), 0.04 * view, 0.13 * view))


def _turned(
    patch: Patch, x: float, y: float, turn: float, reach: float
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Coordinates about (x, y), turned, over the window of the patch within `reach` mm of it."""
    columns = np.flatnonzero(np.abs(patch.x_S - x) < reach)
    rows = np.flatnonzero(np.abs(patch.y_S - y) < reach)
    window = (_span(rows), _span(columns))
    dx, dy = patch.x_S[window[1]][None] - np.float32(x), patch.y_S[window[0]][:, None] - np.float32(y)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return dx * cos + dy * sin, dy * cos - dx * sin, window


def _span(index: np.ndarray) -> slice:
    return slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0, 0)


def _tint(patch: Patch, window: tuple[slice, slice], share: np.ndarray, colour: Colour) -> None:
    for plane, target in zip(patch.albedo_3xSxS, colour, strict=True):
        plane[window] += share * (np.float32(target) - plane[window])


def _meet_heights(patch: Patch, site_Kx3: np.ndarray, room: float) -> None:
    """Raises or lowers the surroundings of each site until the surface passes through it."""
    width = 1.1 * room
    xy = site_Kx3[:, :2]
    here = np.array([_height_at(patch, x, y) for x, y in xy.tolist()])
    apart = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    # A little on the diagonal keeps sites that nearly coincide from fighting each other.
    weight_K = np.linalg.solve(np.exp(-((apart / width) ** 2)) + 1e-3 * np.eye(len(xy)), site_Kx3[:, 2] - here)
    for (x, y), weight in zip(xy.tolist(), weight_K.tolist(), strict=True):
        u, v, window = _turned(patch, x, y, 0.0, 3 * width)
        patch.height_SxS[window] += np.float32(weight) * np.exp(-(u * u + v * v) / np.float32(width**2))


def _height_at(patch: Patch, x: float, y: float) -> float:
    return float(patch.height_SxS[np.abs(patch.y_S - y).argmin(), np.abs(patch.x_S - x).argmin()])
