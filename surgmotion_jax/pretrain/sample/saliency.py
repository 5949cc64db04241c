"""The paper's motion score of tubes from pixels, and what is done with scores. On device, per sample, no communication.

Letters: B batch, T frames, H rows, W columns, t tubelet steps, h and w rows and columns of patches, U tubes of a clip
(h*w columns, or t*h*w tubelets), N tokens.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.pretrain.sample.saliency_kind import Clips, Saliency, SaliencyConfig


def pool(x_BxTxHxW: jax.Array, patch: int) -> jax.Array:
    """Means of square patches, [B,T,h,w]. Both sides must be multiples of `patch`."""
    ways = {"tpu": partial(_pool_by_product, patch=patch), "default": partial(_pool_by_mean, patch=patch)}
    return jax.lax.platform_dependent(x_BxTxHxW, **ways)


def _pool_by_mean(x_BxTxHxW: jax.Array, patch: int) -> jax.Array:
    batch, frames, height, width = x_BxTxHxW.shape
    return x_BxTxHxW.reshape(batch, frames, height // patch, patch, width // patch, patch).mean((3, 5))


def _pool_by_product(x_BxTxHxW: jax.Array, patch: int) -> jax.Array:
    """On a TPU an axis of `patch` columns would be padded to 128: rows are added, columns take a product instead."""
    batch, frames, height, width = x_BxTxHxW.shape
    rows_BxTxhxW = x_BxTxHxW.reshape(batch, frames, height // patch, patch, width).sum(3)
    member_Wxw = jnp.repeat(jnp.eye(width // patch, dtype=x_BxTxHxW.dtype), patch, axis=0)
    return jnp.matmul(rows_BxTxhxW, member_Wxw, precision="highest") / patch**2


def motion_score(
    video01_BxTxHxWx3: jax.Array, patch: int, tubelet: int, unit: str, inside_Bxhxw: jax.Array | None = None
) -> jax.Array:
    """The paper's score g of every tube (SurgMotion, motion-guided latent masked prediction), [B,U] float32.

      g_i = 1/(T-1) sum_t |x_{t+1,i} - x_{t,i}| + 1/T sum_t 1/|N(i)| sum_{j in N(i)} |x_{t,i} - x_{t,j}|

    with mean absolute difference over channels and area for |.|, and the 4 neighbouring patches that exist for N(i).
    Under unit 'tubelet' the sums run over the frames of the tubelet, T being its length. Neighbours outside the field
    of view `inside` do not count: the contrast to a black border says nothing about tissue.
    """
    score = temporal_difference(video01_BxTxHxWx3, patch, tubelet, unit) + spatial_contrast(
        video01_BxTxHxWx3, patch, tubelet, unit, inside_Bxhxw
    )
    return score.reshape(score.shape[0], -1)


def _over_time(x_BxTxhxw: jax.Array, frames: int, unit: str) -> jax.Array:
    """Mean over all frames [B,1,h,w], or over each run of `frames` frames [B,t,h,w]."""
    if unit == "column":
        return x_BxTxhxw.mean(1, keepdims=True)
    batch, length, height, width = x_BxTxhxw.shape
    return x_BxTxhxw.reshape(batch, length // frames, frames, height, width).mean(2)


def temporal_difference(video01_BxTxHxWx3: jax.Array, patch: int, tubelet: int, unit: str) -> jax.Array:
    """Mean absolute difference of neighbouring frames, [B,1,h,w] or [B,t,h,w]."""
    change_BxTxhxw = pool(jnp.abs(jnp.diff(video01_BxTxHxWx3, axis=1)).mean(-1), patch)
    if unit == "column":
        return change_BxTxhxw.mean(1, keepdims=True)
    # Differences *within* a tubelet: those between its frames, leaving out the step to the next tubelet.
    batch, _, height, width = change_BxTxhxw.shape
    padded = jnp.pad(change_BxTxhxw, ((0, 0), (0, 1), (0, 0), (0, 0)))
    return padded.reshape(batch, -1, tubelet, height, width)[:, :, : tubelet - 1].mean(2)


def spatial_contrast(
    video01_BxTxHxWx3: jax.Array, patch: int, tubelet: int, unit: str, inside_Bxhxw: jax.Array | None
) -> jax.Array:
    """Mean absolute difference to the neighbouring patches, pixel-aligned, [B,1,h,w] or [B,t,h,w]."""
    batch, _, height, width, _ = video01_BxTxHxWx3.shape
    rows, columns = height // patch, width // patch
    inside = jnp.ones((batch, rows, columns), bool) if inside_Bxhxw is None else inside_Bxhxw
    total, count = jnp.zeros((batch, 1, rows, columns)), jnp.zeros((batch, 1, rows, columns))
    for axis in (2, 3):
        ahead = jax.lax.slice_in_dim(video01_BxTxHxWx3, patch, None, axis=axis)
        here = jax.lax.slice_in_dim(video01_BxTxHxWx3, 0, -patch, axis=axis)
        contrast = _over_time(pool(jnp.abs(ahead - here).mean(-1), patch), tubelet, unit)
        for side in (0, 1):  # the neighbour after the patch, then the one before it
            ends = [(0, 0)] * 4
            ends[axis] = (side, 1 - side)
            neighbour_inside = jax.lax.slice_in_dim(inside, 1 - side, inside.shape[axis - 1] - side, axis=axis - 1)
            counted = neighbour_inside[:, None].astype(contrast.dtype)
            total = total + jnp.pad(contrast * counted, ends)
            count = count + jnp.pad(counted, ends)
    return total / jnp.maximum(count, 1)


def per_token(x_BxU: jax.Array, grid: Grid) -> jax.Array:
    """Spreads values of tubes to tokens [B,N]."""
    return x_BxU if x_BxU.shape[1] == grid.tokens else jnp.tile(x_BxU, (1, grid.time))


def top_tubes(score_BxU: jax.Array, eligible_BxU: jax.Array, k: int) -> jax.Array:
    """I_h, the k eligible tubes of highest score (all of them where there are fewer), [B,U] bool."""
    ranked_BxU = jnp.where(eligible_BxU, score_BxU, -jnp.inf)
    order_BxU = jnp.argsort(-ranked_BxU, axis=-1, stable=True)
    rank_BxU = jnp.argsort(order_BxU, axis=-1)
    return (rank_BxU < k) & eligible_BxU


def _moments(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    count = jnp.maximum(mask.sum(-1, keepdims=True), 1)
    mean = jnp.where(mask, x, 0).sum(-1, keepdims=True) / count
    return mean, jnp.where(mask, jnp.square(x - mean), 0).sum(-1, keepdims=True) / count


def rescale_score(score_BxU: jax.Array, eligible_BxU: jax.Array, kind: str) -> jax.Array:
    """Normalises scores over a clip's eligible tubes: none, zscore, minmax. Equal scores become 0, never NaN."""
    if kind == "none":
        return score_BxU
    if kind == "zscore":
        mean, variance = _moments(score_BxU, eligible_BxU)
        return jnp.where(variance > 0, (score_BxU - mean) * jax.lax.rsqrt(jnp.maximum(variance, 1e-20)), 0.0)
    low = jnp.where(eligible_BxU, score_BxU, jnp.inf).min(-1, keepdims=True)
    high = jnp.where(eligible_BxU, score_BxU, -jnp.inf).max(-1, keepdims=True)
    span = jnp.where(high > low, high - low, 1.0)
    return jnp.where(high > low, (score_BxU - low) / span, 0.0)


def tube_tokens(masked_BxN: jax.Array, tubes: int) -> jax.Array:
    """Number of masked tokens of each tube, [B,U]."""
    batch, tokens = masked_BxN.shape
    return masked_BxN.reshape(batch, tokens // tubes, tubes).sum(1)


def score(clips: Clips, settings: SaliencyConfig, model: ModelConfig) -> jax.Array:
    """`motion_score` as the table asks for it."""
    video = clips.video01_BxTxHxWx3
    return motion_score(video, model.patch, model.tubelet, settings.unit, clips.inside_Bxhxw)


PAPER = Saliency(score, SaliencyConfig)
