"""Decorrelated features: the covariance term of VICReg (arXiv 2105.04906), beside the hinge on their spread (SFDR).

Letters: B batch, M masked tokens of a clip, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least
from surgmotion_jax.pretrain.losses.term import Counts, Measured, Term, TermConfig, TermInputs, wide


@dataclass(frozen=True)
class CovarianceLossConfig(TermConfig):
    """The covariance of feature dimensions, as VICReg has it."""

    def __post_init__(self) -> None:
        at_least("loss.covariance.weight", self.weight, 0)


def covariance_loss(x_BxMxD: jax.Array, eligible_BxM: jax.Array) -> jax.Array:
    """1/D sum_{d != e} cov(d, e)^2, the unbiased covariance over the eligible tokens of the whole batch."""
    x = wide(x_BxMxD)
    weight = eligible_BxM.astype(x.dtype)[..., None]
    tokens = weight.sum()
    centred = weight * (x - (weight * x).sum((0, 1)) / jnp.maximum(tokens, 1))
    covariance_DxD = jnp.einsum("bmd,bme->de", centred, centred) / jnp.maximum(tokens - 1, 1)
    return (jnp.square(covariance_DxD).sum() - jnp.square(jnp.diagonal(covariance_DxD)).sum()) / x.shape[-1]


def measure(inputs: TermInputs, settings: CovarianceLossConfig) -> Measured:
    """The covariance of the predictions."""
    del settings
    return Measured(covariance_loss(inputs.predicted_BxMxD, inputs.eligible_BxM))


def flops(settings: CovarianceLossConfig, counts: Counts) -> float:
    """The covariance, and a gradient that is one product."""
    del settings
    return 2 * 2 * counts.target * counts.width**2


COVARIANCE = Term(
    label="covariance",
    unit="squares",
    settings=CovarianceLossConfig,
    measure=measure,
    over_batch=True,
    flops=flops,
)
