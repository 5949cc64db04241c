"""L_st, spatiotemporal affinity self-distillation (SurgMotion, arXiv 2602.05638).

Letters: B batch, M masked tokens of a clip, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.checks import at_least
from surgmotion_jax.pretrain.losses.streamed_affinity import Affinity, affinity_divergence
from surgmotion_jax.pretrain.losses.term import Counts, Measured, Term, TermConfig, TermInputs, wide


@dataclass(frozen=True)
class AffinityLossConfig(TermConfig):
    """L_st, spatiotemporal affinity self-distillation."""

    weight: float = 0.1  # its weight in the total; 0 leaves it out
    tau: float = 0.1  # temperature
    rows: int = 256  # rows of the affinity matrices held at a time
    max_tokens: int = 0  # masked tokens of a clip that are compared, evenly spaced; 0: all

    def __post_init__(self) -> None:
        at_least("loss.affinity.weight", self.weight, 0)
        at_least("loss.affinity.rows", self.rows, 1)
        at_least("loss.affinity.max_tokens", self.max_tokens, 0)
        if self.max_tokens == 1:
            raise ValueError(
                "loss.affinity.max_tokens is 1, and a token alone has no affinity; use 0 (all) or 2 and more."
            )
        if not self.tau > 0:
            raise ValueError(f"loss.affinity.tau is {self.tau}; a temperature is positive.")


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
    time, with the exact value and gradient: see `surgmotion_jax/pretrain/losses/streamed_affinity.py`. Of more than
    `max_tokens` tokens that many are compared, evenly spaced among the M, the same of prediction and target; 0 compares
    all.
    """
    if 0 < max_tokens < prediction_BxMxD.shape[1]:
        chosen = np.arange(max_tokens) * prediction_BxMxD.shape[1] // max_tokens
        prediction_BxMxD, target_BxMxD = prediction_BxMxD[:, chosen], target_BxMxD[:, chosen]
        eligible_BxM = eligible_BxM[:, chosen]
    divergence_B = affinity_divergence(
        Affinity(tau, min(rows, prediction_BxMxD.shape[1]), eps),
        wide(prediction_BxMxD),
        wide(target_BxMxD),
        eligible_BxM,
    )
    return (divergence_B / jnp.maximum(eligible_BxM.sum(-1), 1)).mean()


def measure(inputs: TermInputs, settings: AffinityLossConfig) -> Measured:
    """The divergence of the affinities between predictions from those between targets."""
    features = inputs.predicted_BxMxD, inputs.target_BxMxD, inputs.eligible_BxM
    return Measured(affinity_loss(*features, tau=settings.tau, rows=settings.rows, max_tokens=settings.max_tokens))


def _compared(settings: AffinityLossConfig, counts: Counts) -> int:
    return min(counts.target, settings.max_tokens or counts.target)


def flops(settings: AffinityLossConfig, counts: Counts) -> float:
    """Affinities of predictions and targets, both again for the gradient, and two gradients of the predictions'."""
    return 6 * 2 * _compared(settings, counts) ** 2 * counts.width


def working_bytes(settings: AffinityLossConfig, counts: Counts) -> float:
    """Five float32 blocks of rows of the affinity matrices."""
    compared = _compared(settings, counts)
    return 5 * 4 * compared * min(compared, settings.rows)


AFFINITY = Term(
    label="affinity",
    unit="nats",
    settings=AffinityLossConfig,
    measure=measure,
    flops=flops,
    working_bytes=working_bytes,
)
