"""What comes between the scene and the picture: smoke, fluid, dirt on the lens, a lamp's brightness, sensor noise.

Everything is a function of seed and frame number, so any frame can be drawn alone. Letters: H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from surgmotion_jax.simulate.case import Script
from surgmotion_jax.simulate.noise import octaves, smoothstep

_TILE = 256


@dataclass(frozen=True, eq=False)
class Veil:
    """The random fields of one case."""

    seed: int
    smoke_SxS: np.ndarray  # about mean 0, deviation 1, seamless
    swirl_SxS: np.ndarray
    dirt_HxW: np.ndarray  # 0..1: which places of the lens dirty first
    noise: float  # sensor noise, deviation in grey levels


def draw_veil(script: Script, rng: np.random.Generator) -> Veil:
    """The fields of a case; a pure function of config and `rng`'s state."""
    config = script.config
    smoke, swirl = octaves(rng, _TILE, 4, 4, 0.55), octaves(rng, _TILE, 3, 3)
    spots = octaves(rng, _TILE, 5, 2, 0.6)
    dirt = _resized(smoothstep(spots, 0.6, 2.0), config.height, config.width)
    return Veil(script.seed, smoke, swirl, dirt, 4.0 * config.strength("noise"))


def spoil(script: Script, veil: Veil, frame: int, clean_HxWx3: np.ndarray) -> np.ndarray:
    """The frame [H, W, 3], float32 0..1, as the lens and the lamp let it through; unchanged where all is at rest.

    Args:
        script: its schedules say how much of everything there is.
        veil: of this case.
        frame: number of the frame.
        clean_HxWx3: float32 0..1.
    """
    picture = clean_HxWx3
    fluid, smudge, smoke = (float(s[frame]) for s in (script.fluid_T, script.smudge_T, script.smoke_T))
    seconds = frame / script.config.fps
    if fluid > 0:
        picture = _under_fluid(veil, picture, fluid, seconds)
    if smoke > 0:
        picture = _in_smoke(veil, picture, smoke, seconds)
    if smudge > 0:
        picture = _through_dirt(veil, picture, smudge)
    brightness = float(script.brightness_T[frame])
    return picture if brightness == 1 else picture * np.float32(np.sqrt(brightness))


def sensor(veil: Veil, frame: int, picture_HxWx3: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the picture with the sensor's noise, which grows a little with the light."""
    grey = np.clip(picture_HxWx3, 0, 1) * np.float32(255)
    if veil.noise > 0:
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([veil.seed, 7, frame])))
        grain = rng.standard_normal(grey.shape, np.float32)
        grey += grain * (np.float32(0.5 * veil.noise) + grey * np.float32(0.5 * veil.noise / 255))
    return np.clip(grey + np.float32(0.5), 0, 255).astype(np.uint8)


def _in_smoke(veil: Veil, picture: np.ndarray, amount: float, seconds: float) -> np.ndarray:
    """Drifting grey haze, thick and thin in places."""
    height, width = picture.shape[:2]
    wide = _moved(veil.swirl_SxS, height, width, 110, -9 * seconds, 14 * seconds)
    fine = _moved(veil.smoke_SxS, height, width, 170, 26 * seconds, 17 * seconds)
    share = amount * np.clip(0.62 + 0.20 * wide + 0.24 * fine, 0.12, 1.15) * np.float32(0.88)
    share = np.minimum(_resized(share, height, width), 0.96)[..., None]
    haze = np.array([0.74, 0.74, 0.75], np.float32)
    return picture + share * (haze - picture)


def _under_fluid(veil: Veil, picture: np.ndarray, amount: float, seconds: float) -> np.ndarray:
    """A film of pink rinsing fluid that runs down: blurred, tinted, its edges bright."""
    height, width = picture.shape[:2]
    field = _moved(veil.swirl_SxS, height, width, 90, 6 * seconds, -22 * seconds)
    field = _resized(field, height, width)
    share = smoothstep(field, 1.1 - 2.2 * amount, 1.5 - 2.2 * amount)[..., None]
    rim = share * (1 - share)
    film = 0.75 * _blurred(picture, 5) + 0.25 * np.array([0.62, 0.26, 0.24], np.float32)
    return picture + share * np.float32(0.85) * (film - picture) + rim * np.float32(0.12)


def _through_dirt(veil: Veil, picture: np.ndarray, amount: float) -> np.ndarray:
    """Greasy spots on the lens: the scene out of focus behind them, and stray light."""
    share = (np.minimum(veil.dirt_HxW * np.float32(1.6 * amount), 0.92))[..., None]
    behind = _blurred(picture, 7) * np.float32(0.92) + np.float32(0.05)
    return picture + share * (behind - picture)


def _moved(tile_SxS: np.ndarray, height: int, width: int, span: float, right: float, down: float) -> np.ndarray:
    """A quarter-size window of a seamless tile: `span` tile samples over the picture's height, moved by samples."""
    step = span * 4 / height
    rows = np.arange(-(-height // 4)) * step + down
    columns = np.arange(-(-width // 4)) * step + right
    (i, down_by), (j, right_by) = _split(rows), _split(columns)
    top = tile_SxS[i][:, j] * (1 - right_by) + tile_SxS[i][:, (j + 1) % _TILE] * right_by
    low_i = (i + 1) % _TILE
    low = tile_SxS[low_i][:, j] * (1 - right_by) + tile_SxS[low_i][:, (j + 1) % _TILE] * right_by
    return top * (1 - down_by[:, None]) + low * down_by[:, None]


def _split(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cell = np.floor(position)
    return cell.astype(np.int64) % _TILE, (position - cell).astype(np.float32)


def _resized(field: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W] by cubic interpolation of a smaller field."""
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))


def _blurred(picture: np.ndarray, factor: int) -> np.ndarray:
    """Out of focus by about `factor` pixels of a 256-row picture."""
    height, width = picture.shape[:2]
    by = max(1, round(factor * height / 256))
    small = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).reduce(by)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32) / np.float32(255)
