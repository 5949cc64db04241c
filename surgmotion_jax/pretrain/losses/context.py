"""L_ctx, the error of the features predicted of visible tokens (V-JEPA 2.1, arXiv 2603.14482).

Letters: B batch, K context tokens, D width of what is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least
from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.encoder import gather_tokens
from surgmotion_jax.models.positions import distance_to_targets
from surgmotion_jax.pretrain.losses.term import Measured, Term, TermConfig, TermInputs, wide
from surgmotion_jax.pretrain.sample.mask_kind import MaskSet

UNIT_SIDE = 16  # rows of the grid for which a distance `in_grid` is counted in tokens


@dataclass(frozen=True)
class ContextLossConfig(TermConfig):
    """L_ctx, the error of visible tokens' features. It needs model.v21.context_projection."""

    weight: float = 0.0  # lambda, its weight in the total once it has risen (V-JEPA 2.1: 0.5); 0 leaves it out
    rise: tuple[int, int] = (0, 0)  # steps of this run from and to which it rises on a line from 0; equal: at once
    by_distance: bool = True  # divide a token's error by the root of its distance to the nearest target
    in_grid: bool = False  # count that distance in sixteenths of the grid's rows, rounded down to whole tokens

    def __post_init__(self) -> None:
        at_least("loss.context.weight", self.weight, 0)
        if len(self.rise) != 2 or not 0 <= self.rise[0] <= self.rise[1]:
            raise ValueError(
                f"loss.context.rise is {self.rise}; give two steps of this run, 0 <= first <= last, such as "
                "(15000, 30000)."
            )


def context_loss(
    prediction_BxKxD: jax.Array, target_BxKxD: jax.Array, real_BxK: jax.Array, divisor_BxK: jax.Array
) -> jax.Array:
    """L_ctx: mean over clips of the mean over real tokens of mean_D |zhat_i - z_i| / divisor_i.

    The sum is divided by the number of tokens, not by the sum of the weights.
    """
    error_BxK = jnp.abs(wide(prediction_BxKxD) - wide(target_BxKxD)).mean(-1) / divisor_BxK
    tokens_B = jnp.maximum(real_BxK.sum(-1), 1)
    return (jnp.where(real_BxK, error_BxK, 0.0).sum(-1) / tokens_B).mean()


def divisors(mask: MaskSet, grid: Grid, settings: ContextLossConfig) -> jax.Array:
    """What the error of each visible token is divided by, [B,K]: the root of its distance to the nearest target."""
    if not settings.by_distance:
        return jnp.ones(mask.context_BxK.shape)
    distance_BxK = distance_to_targets(mask.context_BxK, mask.target_BxM, grid)
    unit = max(grid.height // UNIT_SIDE, 1) if settings.in_grid else 1
    return jnp.sqrt(distance_BxK / unit)


def measure(inputs: TermInputs, settings: ContextLossConfig) -> Measured:
    """The error of the features predicted of visible tokens."""
    assert inputs.context_predicted_BxKxD is not None, "the predictor makes predictions of visible tokens"
    target_BxKxD = gather_tokens(inputs.all_targets_BxNxD, inputs.mask.context_BxK)
    real_BxK = jnp.take_along_axis(inputs.real_BxN, inputs.mask.context_BxK, axis=1)
    divisor_BxK = divisors(inputs.mask, inputs.grid, settings)
    value = context_loss(inputs.context_predicted_BxKxD, target_BxKxD, real_BxK, divisor_BxK)
    return Measured(value, {"context_share": jnp.asarray(share(settings, inputs.step), jnp.float32)})


def share(settings: ContextLossConfig, step: jax.Array) -> jax.Array:
    """The part of the weight that counts at a step: 0 up to the first step of `rise`, 1 from the last on."""
    first, last = settings.rise
    if first == last:
        return (step >= last).astype(jnp.float32)
    return jnp.clip((step.astype(jnp.float32) - first) / (last - first), 0.0, 1.0)


def detail(settings: ContextLossConfig) -> str:
    """What the banner says beside the label."""
    first, last = settings.rise
    when = f"0 until step {first}, in full from step {last} of this run" if last else "from the first step"
    return f"{when}, {'by distance' if settings.by_distance else 'all alike'}"


CONTEXT = Term(
    label="visible tokens",
    unit="L1",
    settings=ContextLossConfig,
    measure=measure,
    visible=True,
    share=share,
    detail=detail,
)
