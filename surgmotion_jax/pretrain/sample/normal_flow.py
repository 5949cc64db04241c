"""Normal flow as a motion score, as the late history of the authors' repository has it: speed along the gradient.

  f = |dI/dt| / (|grad I| + 0.05) at every pixel, 0 where the gradient is below 0.05: there is no texture to tell motion

f is taken on normalised pixels and averaged over patches. Its median over the patches of a frame stands for the camera.
The score is a base, the camera's part and at most 0.3, plus what exceeds the median, at most 0.7, smoothed over
neighbouring patches by a Gaussian of sigma 1. So it lies in [0, 1], and is used as it is.

What the history leaves open is decided here: I is the mean of the three channels, its gradient a central difference,
and patches outside the field of view count as nothing.

Letters: B batch, T frames, F pairs of frames, H rows, W columns, h and w rows and columns of patches, U tubes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.pixels import normalise_pixels
from surgmotion_jax.pretrain.sample.flow import over_time
from surgmotion_jax.pretrain.sample.saliency_kind import Clips, Saliency, SaliencyConfig

TEXTURE = 0.05  # added to the gradient, and the least of it that counts
BASE, LOCAL = 0.3, 0.7  # largest parts of the camera's motion and of what exceeds it
RADIUS = 3  # patches that the Gaussian reaches


def normal_flow(light_BxTxHxW: jax.Array) -> jax.Array:
    """Speed along the gradient of every pixel, from each frame to the next: [B,F,H,W]."""
    change_BxFxHxW = jnp.abs(jnp.diff(light_BxTxHxW, axis=1))
    before_BxFxHxW = light_BxTxHxW[:, :-1]
    down, right = (_central_difference(before_BxFxHxW, axis) for axis in (2, 3))
    slope_BxFxHxW = jnp.sqrt(jnp.square(down) + jnp.square(right))
    return jnp.where(slope_BxFxHxW >= TEXTURE, change_BxFxHxW / (slope_BxFxHxW + TEXTURE), 0.0)


def _central_difference(x_BxFxHxW: jax.Array, axis: int) -> jax.Array:
    """Half the difference of the neighbours along an axis; edge pixels stand for those beyond."""
    ends = [(0, 0)] * 4
    ends[axis] = (1, 1)
    padded = jnp.pad(x_BxFxHxW, ends, mode="edge")
    size = x_BxFxHxW.shape[axis]
    ahead = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
    return (ahead - jax.lax.slice_in_dim(padded, 0, size, axis=axis)) / 2


def split_off_camera(speed_BxFxhxw: jax.Array, inside_Bxhxw: jax.Array) -> jax.Array:
    """min(median, 0.3) + min(excess over it, 0.7) of every patch inside the field of view, 0 outside."""
    inside_BxFxhxw = jnp.broadcast_to(inside_Bxhxw[:, None], speed_BxFxhxw.shape)
    median = jnp.nanmedian(jnp.where(inside_BxFxhxw, speed_BxFxhxw, jnp.nan), axis=(2, 3), keepdims=True)
    camera = jnp.nan_to_num(median)  # of a frame of which nothing is seen
    local = jnp.clip(speed_BxFxhxw - camera, 0.0, LOCAL)
    return jnp.where(inside_BxFxhxw, jnp.minimum(camera, BASE) + local, 0.0)


def smoothed(x_BxFxhxw: jax.Array) -> jax.Array:
    """A Gaussian of sigma 1 over rows and columns; what lies beyond an edge counts as nothing."""
    for axis in (2, 3):
        place = np.arange(x_BxFxhxw.shape[axis])
        apart = place[:, None] - place
        kernel = np.where(abs(apart) <= RADIUS, np.exp(-0.5 * np.square(apart)), 0.0)
        kernel /= np.exp(-0.5 * np.square(np.arange(-RADIUS, RADIUS + 1))).sum()
        x_BxFxhxw = jnp.moveaxis(jnp.moveaxis(x_BxFxhxw, axis, -1) @ kernel.astype(np.float32), -1, axis)
    return x_BxFxhxw


def normal_flow_score(
    video01_BxTxHxWx3: jax.Array, inside_Bxhxw: jax.Array, patch: int, tubelet: int, unit: str
) -> jax.Array:
    """Score [B,U] of every tube, float32 within [0, 1]; one frame alone scores 0."""
    batch, frames, height, width, _ = video01_BxTxHxWx3.shape
    rows, columns = height // patch, width // patch
    if frames < 2:
        return jnp.zeros((batch, frames // tubelet * rows * columns))
    light = normalise_pixels(video01_BxTxHxWx3).mean(-1)
    speed = normal_flow(light).reshape(batch, frames - 1, rows, patch, columns, patch).mean((3, 5))
    score_BxFxhxw = jnp.clip(smoothed(split_off_camera(speed, inside_Bxhxw)), 0.0, 1.0)
    return over_time(score_BxFxhxw, tubelet, unit).reshape(batch, -1)


def score(clips: Clips, settings: SaliencyConfig, model: ModelConfig) -> jax.Array:
    """`normal_flow_score` as the table asks for it."""
    return normal_flow_score(clips.video01_BxTxHxWx3, clips.inside_Bxhxw, model.patch, model.tubelet, settings.unit)


NORMAL_FLOW = Saliency(score, SaliencyConfig)
