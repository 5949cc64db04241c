"""Random fields on a square that repeats without a seam: the stuff that tissue, smoke and dirt are made of.

Letters: S samples along a side, C lattice cells along a side.
"""

from __future__ import annotations

import numpy as np


def smooth_noise(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> np.ndarray:
    """float32 [S, S] of mean about 0 and deviation about 1: random lattice values under a cubic B-spline.

    Args:
        rng: source of the lattice values.
        size: S.
        cells: lattice cells along (y, x); unequal numbers give fibres.
    """
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    lattice = rng.standard_normal((rows, columns)).astype(np.float32)
    # A coarse field is smooth between samples: it is drawn small and enlarged.
    small = size
    while small % 2 == 0 and small >= 64 * max(rows, columns):
        small //= 2
    field = _spline(_spline(lattice, small).T, small).T
    while len(field) < size:
        field = enlarged(field)
    return np.ascontiguousarray(field / np.float32(0.48))


def enlarged(field: np.ndarray) -> np.ndarray:
    """A seamless field with twice the samples along each side, linear between."""
    wide = np.empty((len(field), 2 * field.shape[1]), field.dtype)
    wide[:, ::2] = field
    wide[:, 1:-1:2] = (field[:, :-1] + field[:, 1:]) * np.float32(0.5)
    wide[:, -1] = (field[:, -1] + field[:, 0]) * np.float32(0.5)
    tall = np.empty((2 * len(field), wide.shape[1]), field.dtype)
    tall[::2] = wide
    tall[1:-1:2] = (wide[:-1] + wide[1:]) * np.float32(0.5)
    tall[-1] = (wide[-1] + wide[0]) * np.float32(0.5)
    return tall


def octaves(
    rng: np.random.Generator, size: int, cells: int | tuple[int, int], levels: int, gain: float = 0.5
) -> np.ndarray:
    """Sum of `levels` noises, each twice as fine and `gain` times as strong as the one before; deviation about 1."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    weights = gain ** np.arange(levels)
    total = np.zeros((size, size), np.float32)
    for level, weight in enumerate(weights / np.sqrt((weights**2).sum())):
        total += np.float32(weight) * smooth_noise(rng, size, (rows << level, columns << level))
    return total


def cell_distances(rng: np.random.Generator, size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances, in cells, to the nearest and second nearest of points strewn one to a lattice cell: lobules."""
    if size % 2 == 0 and size >= 32 * cells:
        nearest, second = cell_distances(rng, size // 2, cells)
        return enlarged(nearest), enlarged(second)
    jitter_CxCx2 = rng.random((cells, cells, 2), dtype=np.float32)
    position = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    cell = position.astype(np.int64)
    inside = position - cell
    nearest = np.full((size, size), 9, np.float32)
    second = nearest.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            point = jitter_CxCx2[((cell + down) % cells)[:, None], ((cell + right) % cells)[None, :]]
            dy = point[..., 0] + np.float32(down) - inside[:, None]
            dx = point[..., 1] + np.float32(right) - inside[None, :]
            distance = dx * dx + dy * dy
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return np.sqrt(nearest), np.sqrt(second)


def blurred(field: np.ndarray, radius: int) -> np.ndarray:
    """A seamless field [S, S], S even, under a box of side about 2 * radius + 1, twice."""
    if radius >= 4 and len(field) % 2 == 0:
        half = (field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) * np.float32(0.25)
        return enlarged(blurred(half, radius // 2))
    for _ in range(2):
        for axis in (0, 1):
            field = _box(field, radius, axis)
    return field


def smoothstep(field: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on, smooth between."""
    share = np.clip((field - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return share * share * (3 - 2 * share)


def _spline(lattice: np.ndarray, size: int) -> np.ndarray:
    """The columns of `lattice` [C, N], periodic along C, as cubic B-splines sampled at [S, N]."""
    cells = len(lattice)
    position = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    cell = position.astype(np.int64)
    x = (position - cell)[:, None]
    weights = ((1 - x) ** 3, 3 * x**3 - 6 * x**2 + 4, -3 * x**3 + 3 * x**2 + 3 * x + 1, x**3)
    total = np.zeros((size, lattice.shape[1]), np.float32)
    for tap, weight in enumerate(weights):
        total += lattice[(cell + (tap - 1)) % cells] * (weight / np.float32(6))
    return total


def _box(field: np.ndarray, radius: int, axis: int) -> np.ndarray:
    total = field.copy()
    for step in range(1, radius + 1):
        total += np.roll(field, step, axis)
        total += np.roll(field, -step, axis)
    return total * np.float32(1 / (2 * radius + 1))
