"""The pixel objective: mean squared error of the masked tubes' pixels (VideoMAE, arXiv 2203.12602).

Masks, augmentation, encoder and what it sees are those of the latent objective; the target encoder keeps following the
online one, so that frozen evaluation finds the same weights, but nothing is learnt from it.

Letters: B batch, T frames, H rows, W columns, N tokens, M target tokens, P values of a patch, Q pixels of a patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least
from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.pretrain.losses.term import ErrorMeasure, Measured, Term, TermConfig, TermInputs, wide

VARIANCE_EPS = 1e-6  # of pixels in [0, 1]: a patch without texture becomes 0, not noise


@dataclass(frozen=True)
class PixelLossConfig(TermConfig):
    """The squared error of pixels. What is predicted, and whether motion weighs it, `objective` says."""

    weight: float = 1.0  # its weight in the total

    def __post_init__(self) -> None:
        at_least("loss.pixel.weight", self.weight, 0)

    def off(self) -> Self:
        """The same: the pixel objective has no plainer error."""
        return self


def pixel_targets(video01_BxTxHxWx3: jax.Array, patch: int, tubelet: int, norm: str) -> jax.Array:
    """What is predicted of every token: its pixels in [0, 1], in the order of `patchify`, [B,N,P] float32.

    `norm` 'patch' gives each tube patch zero mean and unit variance over all its values, as MAE's paper does; 'channel'
    does so for each colour of it, as VideoMAE's code does; 'none' leaves pixels as they are. A patch of one colour
    becomes 0. Variances are population variances, plus 1e-6.
    """
    values_BxNxP = patchify(wide(video01_BxTxHxWx3), patch, tubelet)
    if norm == "none":
        return values_BxNxP
    axes = (-2,) if norm == "channel" else (-2, -1)
    pixels_BxNxQx3 = values_BxNxP.reshape(*values_BxNxP.shape[:2], -1, 3)
    centred = pixels_BxNxQx3 - pixels_BxNxQx3.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + VARIANCE_EPS)).reshape(values_BxNxP.shape)


def pixel_loss(prediction_BxMxP: jax.Array, target_BxMxP: jax.Array, weight_BxM: jax.Array) -> jax.Array:
    """Mean over clips of sum_i weight_i * mean_P (xhat_i - x_i)^2. Weights of a clip sum to 1, or 0 without a token."""
    error_BxM = jnp.square(wide(prediction_BxMxP) - wide(target_BxMxP)).mean(-1)
    return (weight_BxM * error_BxM).sum(-1).mean()


def measure(inputs: TermInputs, settings: PixelLossConfig) -> Measured:
    """The squared error of the masked tokens' pixels."""
    del settings
    return Measured(pixel_loss(inputs.predicted_BxMxD, inputs.target_BxMxD, inputs.weight_BxM))


def _mean(values_BxMxP: jax.Array) -> jax.Array:
    return jnp.nanmean(values_BxMxP, axis=(0, 1))


SQUARES = ErrorMeasure(pixel_loss, jnp.square, _mean)
PIXEL = Term(
    label="squared error of pixels",
    unit="squares",
    settings=PixelLossConfig,
    measure=measure,
    of="pixels",
    error=True,
)
