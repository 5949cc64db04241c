"""L_var, spatiotemporal feature diversity regularisation (SFDR; SurgMotion, arXiv 2602.05638).

Letters: B batch, M masked tokens of a clip, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.pretrain.losses.term import Measured, Term, TermConfig, TermInputs, wide

VARIANCE_EPS = 1e-4  # added to a variance inside the square root


@dataclass(frozen=True)
class DiversityLossConfig(TermConfig):
    """L_var, spatiotemporal feature diversity regularisation (SFDR)."""

    weight: float = 0.3  # its weight in the total; 0 leaves it out
    sigma: float = 1.0  # standard deviation below which the hinge is active
    over: str = "batch"  # over which tokens it is taken: of the whole batch, or of each clip by itself
    unbiased: bool = False  # divide by one token less than there are
    eps: float = VARIANCE_EPS  # added to the variance inside the square root

    def __post_init__(self) -> None:
        at_least("loss.diversity.weight", self.weight, 0)
        at_least("loss.diversity.eps", self.eps, 0)
        one_of("loss.diversity.over", self.over, ("batch", "clip"))


class Spread(NamedTuple):
    """Standard deviation of each feature dimension over the tokens of the global batch, [D]."""

    std_D: jax.Array
    tokens: jax.Array


def spread(x_BxMxD: jax.Array, eligible_BxM: jax.Array, eps: float = VARIANCE_EPS, unbiased: bool = False) -> Spread:
    """Standard deviation sqrt(var + eps) over the eligible tokens of the whole batch: the population's, or unbiased."""
    x = wide(x_BxMxD)
    weight = eligible_BxM.astype(x.dtype)[..., None]
    tokens = jnp.maximum(weight.sum(), 1.0)
    mean_D = (weight * x).sum((0, 1)) / tokens
    divisor = jnp.maximum(tokens - 1, 1.0) if unbiased else tokens
    return Spread(jnp.sqrt((weight * jnp.square(x - mean_D)).sum((0, 1)) / divisor + eps), tokens)


def clip_spread(x_BxMxD: jax.Array, eligible_BxM: jax.Array, eps: float, unbiased: bool) -> Spread:
    """The same for each clip by itself: std [B,D], tokens [B]."""
    return jax.vmap(lambda x, eligible: spread(x[None], eligible[None], eps, unbiased))(x_BxMxD, eligible_BxM)


def diversity_loss(spread: Spread, sigma: float) -> tuple[jax.Array, jax.Array]:
    """L_var (SFDR): mean_d max(0, sigma - std_d), and the share of dimensions where the hinge is active.

    LayerNormed targets have a second moment of at most 1 per dimension on average, so with sigma = 1 part of the hinge
    stays active even at a perfect prediction: watch the share.
    """
    gap_D = sigma - spread.std_D
    return jnp.maximum(0.0, gap_D).mean(), (gap_D > 0).mean()


def measure(inputs: TermInputs, settings: DiversityLossConfig) -> Measured:
    """The hinge on the spread of predictions, and the share of dimensions where it is active."""
    spread_of = spread if settings.over == "batch" else clip_spread
    found = spread_of(inputs.predicted_BxMxD, inputs.eligible_BxM, settings.eps, settings.unbiased)
    value, active = diversity_loss(found, settings.sigma)
    return Measured(value, {"active_dims": active})


def detail(settings: DiversityLossConfig) -> str:
    """What the banner says beside the label."""
    return "per clip" if settings.over == "clip" else ""


DIVERSITY = Term(
    label="diversity", unit="std", settings=DiversityLossConfig, measure=measure, over_batch=True, detail=detail
)
