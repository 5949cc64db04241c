"""Augmentation on device: one crop and one flip per clip, keyed by the sample's global index.

Letters: B batch, T frames, H rows, W columns, S side of the crop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.pretrain.config import AugmentConfig

TRIES = 10


def random_box(key: jax.Array, height: int, width: int, config: AugmentConfig) -> jax.Array:
    """A crop box (top, left, rows, columns), float32 [4], in whole pixels.

    Area uniform in `scale`, aspect log-uniform; of ten draws the first that fits, else the largest centred box of an
    allowed aspect: V-JEPA 2's random resized crop.
    """
    area_key, aspect_key, place_key = jax.random.split(key, 3)
    low, high = config.scale
    area_10 = height * width * jax.random.uniform(area_key, (TRIES,), minval=low, maxval=high)
    bounds = np.log(config.aspect)
    aspect_10 = jnp.exp(jax.random.uniform(aspect_key, (TRIES,), minval=bounds[0], maxval=bounds[1]))
    columns_10 = jnp.round(jnp.sqrt(area_10 * aspect_10))
    rows_10 = jnp.round(jnp.sqrt(area_10 / aspect_10))
    fits_10 = (columns_10 <= width) & (rows_10 <= height)
    first = jnp.argmax(fits_10)
    rows, columns = rows_10[first], columns_10[first]
    place = jnp.floor(jax.random.uniform(place_key, (2,)) * (jnp.stack([height - rows, width - columns]) + 1))
    drawn = jnp.concatenate([place, jnp.stack([rows, columns])])
    return jnp.where(fits_10.any(), drawn, jnp.asarray(_fallback_box(height, width, config)))


def _fallback_box(height: int, width: int, config: AugmentConfig) -> np.ndarray:
    rows, columns = float(height), float(width)
    if width / height < config.aspect[0]:
        rows = round(width / config.aspect[0])
    elif width / height > config.aspect[1]:
        columns = round(height * config.aspect[1])
    return np.array([(height - rows) // 2, (width - columns) // 2, rows, columns], np.float32)


def centre_box(height: int, width: int, crop: int) -> np.ndarray:
    """The central square of `crop` pixels, for evaluation."""
    return np.array([(height - crop) // 2, (width - crop) // 2, crop, crop], np.float32)


def _interpolation(start: jax.Array, size: jax.Array, out: int, length: int) -> jax.Array:
    """Bilinear weights [out, length] reading `out` samples from `start .. start + size` (no antialias, half-pixel)."""
    place = (jnp.arange(out) + 0.5) * size / out - 0.5
    place = jnp.clip(place, 0, size - 1) + start
    return jnp.maximum(0.0, 1.0 - jnp.abs(place[:, None] - jnp.arange(length)))


def crop_clip(video_TxHxWx3: jax.Array, box_4: jax.Array, side: int, flip: jax.Array | bool = False) -> jax.Array:
    """Cuts `box` from a uint8 clip, resizes to [T,S,S,3], scales to [0, 1] float32.

    Two matrix products instead of a gather: the same code is fast on TPU, GPU and CPU.
    """
    _, height, width, _ = video_TxHxWx3.shape
    rows_SxH = _interpolation(box_4[0], box_4[2], side, height)
    columns_SxW = _interpolation(box_4[1], box_4[3], side, width)
    columns_SxW = jnp.where(flip, columns_SxW[::-1], columns_SxW)
    video = video_TxHxWx3.astype(jnp.float32) / 255
    return jnp.einsum("ih,thwc,jw->tijc", rows_SxH, video, columns_SxW, precision="highest")


def augment(video_BxTxHxWx3: jax.Array, sample_key_B: jax.Array, config: AugmentConfig) -> jax.Array:
    """Random resized crop and flip of uint8 clips: [B,T,S,S,3] float32 in [0, 1]."""
    height, width = video_BxTxHxWx3.shape[2:4]

    def one(video: jax.Array, key: jax.Array) -> jax.Array:
        box_key, flip_key = jax.random.split(key)
        flip = jax.random.bernoulli(flip_key, config.flip)
        return crop_clip(video, random_box(box_key, height, width, config), config.crop, flip)

    return jax.vmap(one)(video_BxTxHxWx3, sample_key_B)


def centre(video_BxTxHxWx3: jax.Array, config: AugmentConfig) -> jax.Array:
    """The central crop, no augmentation: [B,T,S,S,3] float32 in [0, 1]."""
    height, width = video_BxTxHxWx3.shape[2:4]
    box = jnp.asarray(centre_box(height, width, config.crop))
    return jax.vmap(lambda video: crop_clip(video, box, config.crop))(video_BxTxHxWx3)
