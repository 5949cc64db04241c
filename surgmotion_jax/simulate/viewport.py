"""The shape of the picture: round, square with cut corners, or full; black outside."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.simulate.case import SceneConfig


def field_of_view(config: SceneConfig, rng: np.random.Generator) -> np.ndarray:
    """float32 [H, W]: 1 inside the field of view, 0 outside, between on the rim that light just reaches.

    Laparoscopes show a circle, endoscopes a circle or a square with cut corners, an open operation fills the picture,
    a microscope fills it or has its corners cut. One shape for a whole case.
    """
    height, width = config.height, config.width
    y = np.abs(np.arange(height, dtype=np.float32)[:, None] - np.float32((height - 1) / 2))
    x = np.abs(np.arange(width, dtype=np.float32)[None] - np.float32((width - 1) / 2))
    size, kind = np.float32(rng.uniform(0.49, 0.56) * height), rng.random()
    if config.specialty == "laparoscopic" or (config.specialty == "endoscopic" and kind < 0.5):
        return np.clip(size - np.hypot(x, y), 0, 1)
    if config.specialty == "endoscopic":
        half = np.float32(0.49 * height)
        inside = np.minimum(np.minimum(half * 1.12 - x, half - y), (half * 1.12 + half * 0.62 - x - y))
        return np.clip(inside, 0, 1)
    if config.specialty == "microscopic" and kind < 0.5:
        return np.clip(np.float32(0.5 * (height + width) * rng.uniform(0.86, 0.94)) - x - y, 0, 1)
    return np.ones((height, width), np.float32)
