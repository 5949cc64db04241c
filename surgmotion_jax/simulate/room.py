"""What the camera shows while it is outside the body: drapes, the skin with a port, the lamp above, out of focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from surgmotion_jax.simulate.case import SceneConfig
from surgmotion_jax.simulate.noise import octaves

_SIZE = 384


@dataclass(frozen=True, eq=False)
class Room:
    """A picture larger than the frame, over which the camera wanders."""

    picture_SxSx3: np.ndarray  # uint8
    phase_4: np.ndarray  # radians, of the wandering


def draw_room(config: SceneConfig, rng: np.random.Generator) -> Room:
    """The surroundings of one case."""
    fold = octaves(rng, _SIZE, 3, 4, 0.5)
    # Lit from one side: what leans towards the lamp is bright.
    lean = np.roll(fold, 5, 0) + np.roll(fold, 4, 1) - 2 * fold
    cloth = np.array([(52, 108, 128), (48, 112, 96), (66, 96, 138)][rng.integers(3)], np.float32)
    picture = np.clip(cloth * (0.8 + 0.7 * np.tanh(1.5 * lean))[..., None], 0, 255)
    image = Image.fromarray(picture.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    x, y, wide, tall = *rng.uniform(0.35, 0.65, 2), *rng.uniform(0.20, 0.32, 2)
    pen.rounded_rectangle(_box((x - wide, y - tall), (x + wide, y + tall)), 30, fill=(204, 154, 128))
    for _ in range(4):
        px, py, r = x + rng.uniform(-wide, wide) * 0.8, y + rng.uniform(-tall, tall) * 0.8, rng.uniform(0.025, 0.045)
        pen.ellipse(_box((px - r, py - r), (px + r, py + r)), fill=(168, 170, 178))
        pen.ellipse(_box((px - r / 2, py - r / 2), (px + r / 2, py + r / 2)), fill=(30, 28, 32))
    x, y = rng.uniform(0.1, 0.9, 2)
    pen.ellipse(_box((x - 0.06, y - 0.06), (x + 0.06, y + 0.06)), fill=(250, 248, 238))
    soft = image.filter(ImageFilter.GaussianBlur(4))
    return Room(np.asarray(soft), rng.uniform(0, 2 * np.pi, 4))


def room_view(room: Room, config: SceneConfig, frame: int) -> np.ndarray:
    """float32 [H, W, 3] 0..1: the part of the room in view in a frame."""
    seconds = frame / config.fps
    sway = np.sin(np.array([0.9, 1.3, 2.1, 1.7]) * seconds + room.phase_4)
    across = 0.7 * _SIZE
    tall = across * config.height / max(config.height, config.width)
    wide = across * config.width / max(config.height, config.width)
    left = (0.5 + 0.22 * sway[0] + 0.03 * sway[2]) * (_SIZE - wide)
    top = (0.5 + 0.22 * sway[1] + 0.03 * sway[3]) * (_SIZE - tall)
    size = (config.width, config.height)
    image = Image.fromarray(room.picture_SxSx3)
    cut = image.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + wide, top + tall))
    return np.asarray(cut, np.float32) / np.float32(255)


def _box(low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float, float, float]:
    x0, x1 = sorted((low[0] * _SIZE, high[0] * _SIZE))
    y0, y1 = sorted((low[1] * _SIZE, high[1] * _SIZE))
    return x0, y0, x1, y1
