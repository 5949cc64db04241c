"""What the released encoders expect of pixels: ImageNet mean and standard deviation per channel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def unit_pixels(video: jax.Array) -> jax.Array:
    """uint8 pixels as float32 in [0, 1]; floating pixels, taken to lie there already, as float32."""
    return video.astype(jnp.float32) / 255 if video.dtype == jnp.uint8 else video.astype(jnp.float32)


def normalise_pixels(video01: jax.Array) -> jax.Array:
    """[..., 3] in [0, 1] to zero mean and unit deviation over ImageNet, the released encoders' input."""
    return (video01 - np.asarray(IMAGENET_MEAN, np.float32)) / np.asarray(IMAGENET_STD, np.float32)
