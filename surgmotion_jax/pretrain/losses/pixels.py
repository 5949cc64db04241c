"""The pixel objective: mean squared error of the masked tubes' pixels (VideoMAE, arXiv 2203.12602).

Masks, augmentation, encoder and what it sees are those of the latent objective; the target encoder keeps following the
online one, so that frozen evaluation finds the same weights, but nothing is learnt from it.

Letters: B batch, T frames, H rows, W columns, N tokens, M target tokens, P values of a patch, Q pixels of a patch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.terms import motion_loss, spread

VARIANCE_EPS = 1e-6  # of pixels in [0, 1]: a patch without texture becomes 0, not noise


def pixel_targets(video01_BxTxHxWx3: jax.Array, patch: int, tubelet: int, norm: str) -> jax.Array:
    """What is predicted of every token: its pixels in [0, 1], in the order of `patchify`, [B,N,P] float32.

    `norm` 'patch' gives each tube patch zero mean and unit variance over all its values, as MAE's paper does; 'channel'
    does so for each colour of it, as VideoMAE's code does; 'none' leaves pixels as they are. A patch of one colour
    becomes 0. Variances are population variances, plus 1e-6.
    """
    wide = jnp.promote_types(video01_BxTxHxWx3.dtype, jnp.float32)
    values_BxNxP = patchify(video01_BxTxHxWx3.astype(wide), patch, tubelet)
    if norm == "none":
        return values_BxNxP
    axes = (-2,) if norm == "channel" else (-2, -1)
    pixels_BxNxQx3 = values_BxNxP.reshape(*values_BxNxP.shape[:2], -1, 3)
    centred = pixels_BxNxQx3 - pixels_BxNxQx3.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + VARIANCE_EPS)).reshape(values_BxNxP.shape)


def pixel_loss(prediction_BxMxP: jax.Array, target_BxMxP: jax.Array, weight_BxM: jax.Array) -> jax.Array:
    """Mean over clips of sum_i weight_i * mean_P (xhat_i - x_i)^2. Weights of a clip sum to 1, or 0 without a token."""
    wide = jnp.promote_types(prediction_BxMxP.dtype, jnp.float32)
    error_BxM = jnp.square(prediction_BxMxP.astype(wide) - target_BxMxP.astype(wide)).mean(-1)
    return (weight_BxM * error_BxM).sum(-1).mean()


def pixel_terms(
    prediction_BxMxP: jax.Array,
    target_BxMxP: jax.Array,
    plain_BxM: jax.Array,
    motion_BxM: jax.Array,
    eligible_BxM: jax.Array,
    config: PretrainConfig,
) -> dict[str, jax.Array]:
    """The loss and gauges of one mask set. `loss/l1` is the mean absolute error of the same values.

    The spread of predicted pixels has a name of its own: near 0 it says that the mean is predicted, as at the start of
    every run, not that features collapse.
    """
    with jax.named_scope("losses"):
        weight_BxM = motion_BxM if config.objective.weigh_motion else plain_BxM
        squared = pixel_loss(prediction_BxMxP, target_BxMxP, weight_BxM)
        seen = spread(prediction_BxMxP, eligible_BxM, config.loss.diversity.eps)
        return {
            "loss/total": config.loss.motion.weight * squared,
            "loss/pixel": squared,
            "loss/l1": jax.lax.stop_gradient(motion_loss(prediction_BxMxP, target_BxMxP, plain_BxM)),
            "gauge/pixel_std": jax.lax.stop_gradient(seen.std_D.mean()),
        }
