"""Changes to the windows of a step that leave their labels as they are: mirrored, or moved by some pixels.

Maps of labels, and of what counts, are changed with their pictures. Letters: B windows, T frames, S side of the square.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from surgmotion_jax.evaluate.config import FinetuneConfig
from surgmotion_jax.evaluate.heads.sweep_program import Batch


def augmented(settings: FinetuneConfig, key: jax.Array, batch: Batch) -> Batch:
    """The batch as a step sees it; a pure function of `key`, and the batch itself where nothing is to be changed.

    Args:
        settings: whether windows are mirrored, and how far they are moved at most.
        key: of the step.
        batch: features are windows [B,T,S,S,3]; target and mask are [B,S,S], or have no pixels.
    """
    if not (settings.flips or settings.shift):
        return batch
    side = batch.features.shape[2]
    rows_BxS, columns_BxS = _places(settings, key, len(batch.features), side)
    i_BxS, j_BxS = jnp.clip(rows_BxS, 0, side - 1), jnp.clip(columns_BxS, 0, side - 1)  # edges are repeated
    video = jax.vmap(lambda x, i, j: x[:, i][:, :, j])(batch.features, i_BxS, j_BxS)
    if jnp.ndim(batch.mask) != 3:
        return batch._replace(features=video)
    target, mask = (jax.vmap(lambda x, i, j: x[i][:, j])(each, i_BxS, j_BxS) for each in (batch.target, batch.mask))
    seen = (rows_BxS == i_BxS)[:, :, None] & (columns_BxS == j_BxS)[:, None]  # what is repeated has no truth
    return batch._replace(features=video, target=target, mask=mask & seen)


def _places(settings: FinetuneConfig, key: jax.Array, windows: int, side: int) -> tuple[jax.Array, jax.Array]:
    """The row and the column [B,S] that each row and column is taken from; beyond the edges where it was moved."""
    most = round(settings.shift * side)

    def place(window: jax.Array) -> tuple[jax.Array, jax.Array]:
        # A key for each window: how many rows fill up a batch, which depends on the devices, must not matter.
        mirror_key, move_key = jax.random.split(jax.random.fold_in(key, window))
        down, right = jax.random.randint(move_key, (2,), -most, most + 1)
        along_S = jnp.arange(side)
        mirrored = jax.random.bernoulli(mirror_key) & settings.flips
        return along_S + down, jnp.where(mirrored, along_S[::-1], along_S) + right

    return jax.vmap(place)(jnp.arange(windows))
