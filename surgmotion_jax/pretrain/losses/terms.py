"""The paper's loss terms over masked tokens (SurgMotion, arXiv 2602.05638). Arrays in, scalars out.

Letters: B batch, M masked tokens of a clip, D feature width. All sums are float32 or wider.
Sums over B run over the whole global batch: under a mesh the compiler adds the reduction.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.pretrain.losses.affinity import Affinity, affinity_divergence


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def motion_loss(prediction_BxMxD: jax.Array, target_BxMxD: jax.Array, weight_BxM: jax.Array) -> jax.Array:
    """L_motion: mean over clips of sum_i weight_i * mean_D |zhat_i - z_i|. The weights carry scope and reduction."""
    error_BxM = jnp.abs(_wide(prediction_BxMxD) - _wide(target_BxMxD)).mean(-1)
    return (weight_BxM * error_BxM).sum(-1).mean()


def affinity_loss(
    prediction_BxMxD: jax.Array,
    target_BxMxD: jax.Array,
    eligible_BxM: jax.Array,
    *,
    tau: float,
    rows: int,
    max_tokens: int = 0,
    eps: float = 1e-8,
) -> jax.Array:
    """L_st: KL(a^E_i || ahat_i) of softmax affinities between the masked tokens of a clip; mean over i, then clips.

      a_ij = softmax_j(u_i . u_j / tau),  u = z / max(||z||_2, eps),  j over masked tokens, i itself included

    Only `eligible` tokens take part; clips with none count as 0. At most `rows` rows of the M x M matrices exist at a
    time, with the exact value and gradient: see `surgmotion_jax/pretrain/losses/affinity.py`. Of more than `max_tokens`
    tokens that many are compared, evenly spaced among the M, the same of prediction and target; 0 compares all.
    """
    if 0 < max_tokens < prediction_BxMxD.shape[1]:
        chosen = np.arange(max_tokens) * prediction_BxMxD.shape[1] // max_tokens
        prediction_BxMxD, target_BxMxD = prediction_BxMxD[:, chosen], target_BxMxD[:, chosen]
        eligible_BxM = eligible_BxM[:, chosen]
    divergence_B = affinity_divergence(
        Affinity(tau, min(rows, prediction_BxMxD.shape[1]), eps),
        _wide(prediction_BxMxD),
        _wide(target_BxMxD),
        eligible_BxM,
    )
    return (divergence_B / jnp.maximum(eligible_BxM.sum(-1), 1)).mean()


class Spread(NamedTuple):
    """Standard deviation of each feature dimension over the tokens of the global batch, [D]."""

    std_D: jax.Array
    tokens: jax.Array


def spread(x_BxMxD: jax.Array, eligible_BxM: jax.Array, eps: float) -> Spread:
    """Population standard deviation sqrt(var + eps) over the eligible tokens of the whole batch."""
    x = _wide(x_BxMxD)
    weight = eligible_BxM.astype(x.dtype)[..., None]
    tokens = jnp.maximum(weight.sum(), 1.0)
    mean_D = (weight * x).sum((0, 1)) / tokens
    return Spread(jnp.sqrt((weight * jnp.square(x - mean_D)).sum((0, 1)) / tokens + eps), tokens)


def diversity_loss(spread: Spread, sigma: float) -> tuple[jax.Array, jax.Array]:
    """L_var (SFDR): mean_d max(0, sigma - std_d), and the share of dimensions where the hinge is active.

    LayerNormed targets have a second moment of at most 1 per dimension on average, so with sigma = 1 part of the hinge
    stays active even at a perfect prediction: watch the share.
    """
    gap_D = sigma - spread.std_D
    return jnp.maximum(0.0, gap_D).mean(), (gap_D > 0).mean()
