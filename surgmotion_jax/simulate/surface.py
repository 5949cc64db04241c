"""The tissue as a moving height field: where a material point is at a given time, and where rays meet it.

A material point is named by its place (x, y) in mm on the tissue at rest; everything that belongs to tissue (colour,
vessels, lesion) belongs to material points, so that motion is exact. Letters: S samples along a side of the tissue
square, P pixels, N points, M instruments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Script
from surgmotion_jax.simulate.geometry import Camera, looked_at
from surgmotion_jax.simulate.landmarks import Lesion, add_lesion, add_targets, blood_order
from surgmotion_jax.simulate.noise import blurred, octaves
from surgmotion_jax.simulate.tissue import Patch, paint_tissue

_STEEPEST = 1.5  # slope of tissue that rays are sure not to step through
_CHANNELS = 8  # red, green, blue, vessel, blood order, gloss, ripple along x, ripple along y


@dataclass(frozen=True, eq=False)
class Surface:
    """Tissue at rest. The square around `middle_2` repeats without a seam."""

    middle_2: np.ndarray  # mm
    side: float  # mm
    view: float  # mm that the picture shows
    size: int  # S, a power of two
    height_SS: np.ndarray  # float32 mm, flat
    vessel_SS: np.ndarray  # float32 0..1, flat
    look_SSx8: np.ndarray  # float32: colour (0..255), vessel, blood order, gloss, ripple (slope of the wet film)
    lesion: Lesion | None


@dataclass(frozen=True, eq=False)
class Motion:
    """How the tissue is displaced at one time: by breath and pulse, pulled with the tips, pressed in under them."""

    height_SS: np.ndarray  # float32 mm: rest height with breath and pulse, flat
    breath: float  # mm
    pulse: float  # mm on vessels
    centre_Nx2: np.ndarray  # material points that are pulled or pressed
    shift_Nx3: np.ndarray  # mm at each centre
    radius_N: np.ndarray  # mm over which each fades


def build_surface(script: Script, rng: np.random.Generator) -> Surface:
    """Paints the tissue of a case; a pure function of script and `rng`'s state."""
    config = script.config
    view = script.view
    seen_Tx2 = looked_at(script)
    low_2, high_2 = np.percentile(seen_Tx2, [2, 98], axis=0)
    wander = float((high_2 - low_2).max())
    side = wander + view * max(2.3, 1.5 * config.width / config.height + 0.6)
    middle_2 = (low_2 + high_2) / 2
    # About two samples to a pixel of a small picture, one to a pixel of a large one.
    size = 512 if config.height <= 128 else 1024 if config.height <= 512 else 2048
    patch = paint_tissue(config.specialty, rng, size, side, view)
    site_Kx3 = np.asarray(script.target_site_Kx3, np.float64) - [middle_2[0], middle_2[1], 0]
    if len(site_Kx3):
        add_targets(patch, rng, config.specialty, site_Kx3, contrast=1 - 0.55 * config.difficulty)
    _limit_slopes(patch)
    lesion = _place_lesion(site_Kx3, view, rng) if config.lesion else None
    if lesion is not None:
        add_lesion(patch, rng, lesion)
    look = _look(patch, rng)
    return Surface(middle_2, side, view, size, patch.height_SxS.ravel(), patch.vessel_SxS.ravel(), look, lesion)


def motion_at(surface: Surface, script: Script, frame: int) -> Motion:
    """The displacement of the tissue in one frame."""
    breath, pulse = float(script.breath_T[frame]), float(script.pulse_T[frame])
    height = surface.height_SS + np.float32(breath)
    height += np.float32(pulse) * surface.vessel_SS
    centres, shifts, radii = [], [], []
    for slot in np.flatnonzero(script.visible_TxM[frame]).tolist():
        tip_3 = np.asarray(script.tip_TxMx3[frame, slot], np.float64)
        pull_3 = np.asarray(script.pull_TxMx3[frame, slot], np.float64)
        centre_2 = tip_3[:2] - pull_3[:2]
        if np.any(pull_3):
            centres.append(centre_2)
            shifts.append(pull_3)
            # Wide enough that neighbouring points never change places.
            radii.append(max(0.13 * surface.view, 1.7 * float(np.linalg.norm(pull_3))))
        top = _height_under(surface, height, centre_2) + pull_3[2]
        deep = float(np.clip(top - tip_3[2], 0, 0.05 * surface.view))
        if deep > 0:
            centres.append(centre_2)
            shifts.append(np.array([0.0, 0.0, -deep]))
            radii.append(max(0.035 * surface.view, 1.5 * deep))
    return Motion(
        height,
        breath,
        pulse,
        np.array(centres).reshape(-1, 2),
        np.array(shifts).reshape(-1, 3),
        np.array(radii).reshape(-1),
    )


def shift(motion: Motion, x_N: np.ndarray, y_N: np.ndarray) -> list[np.ndarray]:
    """Displacement [3 arrays, N] in mm of material points by pulling and pressing; breath and pulse come on top."""
    total = [np.zeros_like(x_N) for _ in range(3)]
    for centre_2, shift_3, radius in zip(motion.centre_Nx2, motion.shift_Nx3, motion.radius_N, strict=True):
        dx, dy = x_N - np.float32(centre_2[0]), y_N - np.float32(centre_2[1])
        near = 1 + (dx * dx + dy * dy) * np.float32(1 / radius**2)
        share = 1 / (near * near)
        for axis in range(3):
            if shift_3[axis]:
                total[axis] += np.float32(shift_3[axis]) * share
    return total


def where(motion: Motion, x_N: np.ndarray, y_N: np.ndarray, rest_N: np.ndarray, vessel_N: np.ndarray) -> np.ndarray:
    """World position [3, N] of material points, given their height at rest and how much of a vessel they are."""
    dx, dy, dz = shift(motion, x_N, y_N)
    return np.stack([x_N + dx, y_N + dy, rest_N + np.float32(motion.breath) + np.float32(motion.pulse) * vessel_N + dz])


def meet(surface: Surface, motion: Motion, camera: Camera, ray_3xP: np.ndarray) -> tuple[np.ndarray, ...]:
    """Depth and material point (x, y), each [P], where each ray first meets the tissue.

    Steps along the ray by the gap below it, shortened so that tissue is not stepped through, then two secant
    steps. `_limit_slopes` keeps nearly all tissue below that slope.
    """
    px, py, pz = camera.position_3.astype(np.float32).tolist()
    ray_x, ray_y, ray_z = ray_3xP[0], ray_3xP[1], np.minimum(ray_3xP[2], np.float32(-0.05))
    across = np.sqrt(ray_x * ray_x + ray_y * ray_y)
    stride = 1 / (np.float32(_STEEPEST) * across - ray_z)
    top = float(motion.height_SS.max()) + float(np.maximum(motion.shift_Nx3[:, 2], 0).sum())
    depth = np.maximum((top - pz) / ray_z, np.float32(0))
    x, y = px + depth * ray_x, py + depth * ray_y
    for _ in range(9):
        gap, x, y = _gap(surface, motion, (px, py, pz), (ray_x, ray_y, ray_z), depth, x, y)
        depth = depth + gap * stride
    before, before_gap = depth - gap * stride, gap
    for _ in range(2):
        gap, x, y = _gap(surface, motion, (px, py, pz), (ray_x, ray_y, ray_z), depth, x, y)
        fall = before_gap - gap
        safe = np.abs(fall) > np.float32(1e-4) * surface.view
        step = np.where(safe, gap * (depth - before) / np.where(safe, fall, 1), gap * stride)
        limit = np.abs(gap) * 3 * stride
        before, before_gap = depth, gap
        depth = depth + np.clip(step, -limit, limit)
    _, x, y = _gap(surface, motion, (px, py, pz), (ray_x, ray_y, ray_z), depth, x, y)
    return depth, x, y


def look_up(surface: Surface, x_N: np.ndarray, y_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 8 channels [N, 8] and the height at rest [N] of material points, bilinear."""
    corners, shares = _corners(surface, x_N, y_N)
    look = surface.look_SSx8[corners[0]] * shares[0][:, None]
    for corner, share in zip(corners[1:], shares[1:], strict=True):
        look += surface.look_SSx8[corner] * share[:, None]
    return look, _blend(surface.height_SS, corners, shares)


def lesion_share(surface: Surface, x_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """bool [N]: material points of the lesion, as far as its rim."""
    if surface.lesion is None:
        return np.zeros(x_N.shape, bool)
    dx = x_N - np.float32(surface.middle_2[0] + surface.lesion.x)
    dy = y_N - np.float32(surface.middle_2[1] + surface.lesion.y)
    return dx * dx + dy * dy < np.float32(surface.lesion.radius**2)


def _gap(
    surface: Surface,
    motion: Motion,
    position: tuple[float, ...],
    ray: tuple[np.ndarray, ...],
    depth: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far each ray's point lies above the tissue, and the material point below it, refined from (x, y)."""
    world_x, world_y = position[0] + depth * ray[0], position[1] + depth * ray[1]
    dx, dy, dz = shift(motion, x, y)
    x, y = world_x - dx, world_y - dy
    corners, shares = _corners(surface, x, y)
    return position[2] + depth * ray[2] - _blend(motion.height_SS, corners, shares) - dz, x, y


def _corners(surface: Surface, x: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Flat indices of the four samples around each point, and their shares. Rows run along -y."""
    size = surface.size
    scale = np.float32(size / surface.side)
    column = (x - np.float32(surface.middle_2[0])) * scale + np.float32(size / 2)
    row = np.float32(size / 2) - (y - np.float32(surface.middle_2[1])) * scale
    low_column, low_row = np.floor(column), np.floor(row)
    right, down = column - low_column, row - low_row
    j = low_column.astype(np.int32) & (size - 1)
    i = (low_row.astype(np.int32) & (size - 1)) * size
    j_next, i_next = (j + 1) & (size - 1), (i + size) & (size * size - 1)
    both = right * down
    shares = [1 - right - down + both, right - both, down - both, both]
    return [i + j, i + j_next, i_next + j, i_next + j_next], shares


def _blend(field: np.ndarray, corners: list[np.ndarray], shares: list[np.ndarray]) -> np.ndarray:
    total = field.take(corners[0]) * shares[0]
    for corner, share in zip(corners[1:], shares[1:], strict=True):
        total += field.take(corner) * share
    return total


def _height_under(surface: Surface, height_SS: np.ndarray, point_2: np.ndarray) -> float:
    x, y = point_2[:1].astype(np.float32), point_2[1:].astype(np.float32)
    return float(_blend(height_SS, *_corners(surface, x, y))[0])


def _limit_slopes(patch: Patch) -> None:
    """Flattens walls steeper than about 1, which a height field seen obliquely cannot show well."""
    height = patch.height_SxS
    for _ in range(2):
        step = patch.side / patch.size
        slope = np.hypot(np.roll(height, -1, 0) - height, np.roll(height, -1, 1) - height) / np.float32(step)
        steep = np.minimum(blurred(np.clip(slope - 0.8, 0, 1), patch.size // 170) * 3, 1)
        height += steep * (blurred(height, patch.size // 110) - height)


def _place_lesion(site_Kx3: np.ndarray, view: float, rng: np.random.Generator) -> Lesion:
    """A lesion near the middle of the picture, as far from the target structures as eight draws allow."""
    draw_8x2 = rng.uniform(-0.2, 0.2, (8, 2)) * view
    radius = float(rng.uniform(0.07, 0.13) * view)
    if len(site_Kx3):
        apart = np.linalg.norm(draw_8x2[:, None] - site_Kx3[None, :, :2], axis=-1).min(axis=1)
        draw_8x2 = draw_8x2[[apart.argmax()]]
    return Lesion(float(draw_8x2[0, 0]), float(draw_8x2[0, 1]), radius)


def _look(patch: Patch, rng: np.random.Generator) -> np.ndarray:
    look = np.empty((patch.size, patch.size, _CHANNELS), np.float32)
    look[..., :3] = patch.albedo_3xSxS.transpose(1, 2, 0)
    look[..., 3] = patch.vessel_SxS
    look[..., 4] = blood_order(patch, rng)
    look[..., 5] = patch.gloss_SxS
    film = octaves(rng, patch.size, patch.cells(11), 3, 0.8)
    look[..., 6] = np.roll(film, -1, 1) - np.roll(film, 1, 1)
    look[..., 7] = np.roll(film, 1, 0) - np.roll(film, -1, 0)
    look[..., 6:] /= np.float32(look[..., 6].std() + 1e-9)
    return look.reshape(-1, _CHANNELS)
