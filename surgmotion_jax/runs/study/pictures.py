"""What the encoders of a study make of the same windows: their features as colours, a strip an arm.

pictures/ARM.png is a strip, pictures/frames.png the last frames of the windows themselves.
Letters: K windows, S side of the square, H rows and W columns of a strip.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader, in_order
from surgmotion_jax.evaluate.heads.predictors import spread
from surgmotion_jax.report.pictures import colour_picture, feature_colours

WINDOWS, SIDE = 6, 96  # of a strip, and pixels of each
FOLDER, FRAMES = "pictures", "frames"


def write_strips(encoder: FrozenEncoder, arm: str, data: DataConfig, root: str, place: Path) -> None:
    """Colours of the last token step of a few validation windows, the same for every arm.

    Each arm has its own three principal components: a colour means nothing across arms, what is set apart does.
    """
    video_KxTxSxSx3, frames = windows(data, root), place / FOLDER / f"{FRAMES}.png"
    token_KxtxhxwxD = np.asarray(encoder.with_layers(video_KxTxSxSx3, ()).tokens)
    colour_Kxhxwx3 = feature_colours(token_KxtxhxwxD)[:, -1]
    if not frames.exists():
        _write(frames, video_KxTxSxSx3[:, -1] / 255)
    _write(place / FOLDER / f"{arm}.png", colour_Kxhxwx3)


def windows(data: DataConfig, root: str) -> np.ndarray:
    """uint8 [K,T,S,S,3], spread evenly over the validation cases."""
    cases, reader = read_cohort(data, root).val, WindowReader(data)
    return np.stack([reader.window(cases[p.case], p.row) for p in spread(in_order(cases), WINDOWS)])


def read_strips(place: Path) -> Mapping[str, np.ndarray]:
    """uint8 [H,W,3] by arm, the frames first; empty where there are none yet."""
    found = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in (place / FOLDER).glob("*.png")}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != FRAMES, name))}


def _write(path: Path, picture_Kxhxwx3: np.ndarray) -> None:
    strip_HxWx3 = np.concatenate([colour_picture(one, (SIDE, SIDE)) for one in picture_Kxhxwx3], axis=1)
    encoded = io.BytesIO()
    Image.fromarray(strip_HxWx3).save(encoded, "PNG")
    storage.write_bytes_atomic(path, encoded.getvalue())
