"""Windows as they are, where a head in training reads an encoder in training and no feature can be kept."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.evaluate.config import CacheConfig, DataConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.windows_of_cases import WindowBatch, WindowReader


class Pixels:
    """`Encodes` by doing nothing: the features of a moment are its window, uint8 [T,S,S,3].

    They are kept on disk as features are, so that a video is decoded once and not once an epoch. Raises ValueError for
    windows that the encoder does not take.
    """

    dtype = "uint8"

    def __init__(self, encoder: FrozenEncoder, data: DataConfig, cache: CacheConfig) -> None:
        encoder.grid(data.frames, data.size, data.size)
        self.cache, self.reader = cache, WindowReader(data)
        self.shape: tuple[int, ...] = (data.frames, data.size, data.size, 3)

    def __call__(self, batch: WindowBatch) -> np.ndarray:
        """[B,T,S,S,3] of the real rows of a batch."""
        return batch.video_BxTxSxSx3[: len(batch.positions)]

    @property
    def key(self) -> dict[str, object]:
        """Plain JSON values, equal where the windows are, whatever encoder reads them."""
        data = self.reader.data
        windows = {name: getattr(data, name) for name in ("recipe", "frames", "fps", "size", "resize")}
        return {"features": "pixels", "windows": windows}
