"""L_motion, motion-guided latent masked prediction (SurgMotion, arXiv 2602.05638): the error of predicted features.

Without motion (`alpha` 0) it is V-JEPA's loss. The weights of tokens follow from the motion score of tubes.

Letters: B batch, N tokens, M masked tokens of a clip, D feature width, U tubes of a clip.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.losses.term import ErrorMeasure, Measured, Term, TermConfig, TermInputs, wide
from surgmotion_jax.pretrain.sample.saliency import per_token, rescale_score, top_tubes, tube_tokens
from surgmotion_jax.pretrain.sample.saliency_kind import NeedsScore


@dataclass(frozen=True)
class MotionLossConfig(TermConfig):
    """L_motion, motion-guided latent masked prediction."""

    switch: ClassVar[str] = "alpha"

    weight: float = 1.0  # its weight in the total
    scope: str = "dense"  # topk: the paper's formula read literally; dense: every masked token, weighted by motion
    # sum (total weight K + 1), mean (total weight 1), count (dense: divided by the number of masked tokens, so that
    # motion adds to the total); auto: sum under topk, mean under dense
    reduce: str = "auto"
    top_k: int = 3  # K tubes with the highest score (topk)
    gamma: float = 2.0  # temperature of their weights (topk)
    alpha: float = 2.0  # extra weight of the most moving token (dense); 0 is plain V-JEPA
    score_norm: str = "zscore"  # none, zscore, minmax over the clip's masked tubes (topk)
    dense_norm: str = "minmax"  # none (of a score within [0, 1]), minmax over the clip's masked tokens (dense)

    def __post_init__(self) -> None:
        one_of("loss.motion.scope", self.scope, ("topk", "dense"))
        one_of("loss.motion.reduce", self.reduce, ("auto", "sum", "mean", "count"))
        one_of("loss.motion.score_norm", self.score_norm, ("none", "zscore", "minmax"))
        one_of("loss.motion.dense_norm", self.dense_norm, ("none", "minmax"))
        if self.reduce == "count" and self.scope == "topk":
            raise ValueError(
                "loss.motion.reduce is 'count', but loss.motion.scope is 'topk', under which few tokens count; set "
                "--config.loss.motion.scope=dense or --config.loss.motion.reduce=mean."
            )
        at_least("loss.motion.top_k", self.top_k, 1)
        at_least("loss.motion.alpha", self.alpha, 0)
        at_least("loss.motion.weight", self.weight, 0)

    def off(self) -> Self:
        """Every masked token alike: the prediction error itself stays."""
        return dataclasses.replace(self, scope="dense", alpha=0.0)


def motion_loss(prediction_BxMxD: jax.Array, target_BxMxD: jax.Array, weight_BxM: jax.Array) -> jax.Array:
    """L_motion: mean over clips of sum_i weight_i * mean_D |zhat_i - z_i|. The weights carry scope and reduction."""
    error_BxM = jnp.abs(wide(prediction_BxMxD) - wide(target_BxMxD)).mean(-1)
    return (weight_BxM * error_BxM).sum(-1).mean()


def measure(inputs: TermInputs, settings: MotionLossConfig) -> Measured:
    """The weighted L1 error of the predicted features."""
    del settings  # the weights of `token_weights` carry them
    return Measured(motion_loss(inputs.predicted_BxMxD, inputs.target_BxMxD, inputs.weight_BxM))


def token_weights(
    score_BxU: jax.Array, masked_BxN: jax.Array, eligible_BxN: jax.Array, grid: Grid, settings: MotionLossConfig
) -> jax.Array:
    """How much each token counts in the prediction error, [B,N]: 0 where it is not masked."""
    if settings.scope == "topk":
        eligible_BxU = tube_tokens(eligible_BxN, score_BxU.shape[1]) > 0
        return topk_token_weights(score_BxU, masked_BxN, eligible_BxU, grid, settings)
    return dense_token_weights(per_token(score_BxU, grid), masked_BxN, eligible_BxN, settings)


def topk_token_weights(
    score_BxU: jax.Array, masked_BxN: jax.Array, eligible_BxU: jax.Array, grid: Grid, config: MotionLossConfig
) -> jax.Array:
    """Token weights [B,N] of the literal formula: 1 + w_i on the tubes of I_h, shared by the tube's masked tokens.

    `eligible` tubes are masked and inside the field of view. The weights of a clip sum to K + 1 (`reduce` sum) or 1
    (mean); a clip without an eligible tube gets zeros.
    """
    chosen_BxU = top_tubes(score_BxU, eligible_BxU, config.top_k)
    rescaled_BxU = rescale_score(score_BxU, eligible_BxU, config.score_norm)
    logits_BxU = jnp.where(chosen_BxU, config.gamma * rescaled_BxU, -jnp.inf)
    peak = jnp.where(chosen_BxU.any(-1, keepdims=True), logits_BxU.max(-1, keepdims=True), 0.0)
    share_BxU = jnp.exp(logits_BxU - peak)
    share_BxU = share_BxU / jnp.maximum(share_BxU.sum(-1, keepdims=True), 1e-20)
    weight_BxU = jnp.where(chosen_BxU, 1 + share_BxU, 0.0)
    if config.reduce == "mean":
        weight_BxU = weight_BxU / jnp.maximum(weight_BxU.sum(-1, keepdims=True), 1e-20)
    tokens_BxU = tube_tokens(masked_BxN, weight_BxU.shape[1])
    return per_token(weight_BxU / jnp.maximum(tokens_BxU, 1), grid) * masked_BxN


def dense_token_weights(
    score_BxN: jax.Array, masked_BxN: jax.Array, eligible_BxN: jax.Array, config: MotionLossConfig
) -> jax.Array:
    """Token weights [B,N]: 1 + alpha m_i on every masked token, divided by their sum (times K + 1 under `reduce` sum).

    m is the score min-max normalised over the clip's masked tokens inside the field of view, or as it is; 0 elsewhere.
    Under `reduce` count the weights are divided by the number of masked tokens.
    """
    motion_BxN = jnp.where(eligible_BxN, rescale_score(score_BxN, eligible_BxN, config.dense_norm), 0.0)
    weight_BxN = jnp.where(masked_BxN, 1 + config.alpha * motion_BxN, 0.0)
    if config.reduce == "count":
        return weight_BxN / jnp.maximum(masked_BxN.sum(-1, keepdims=True), 1)
    scale = config.top_k + 1 if config.reduce == "sum" else 1
    return scale * weight_BxN / jnp.maximum(weight_BxN.sum(-1, keepdims=True), 1e-20)


def detail(settings: MotionLossConfig) -> str:
    """What the banner says beside the label."""
    return f"dense, alpha {settings.alpha:g}" if settings.scope == "dense" else settings.scope


def needs_score(settings: MotionLossConfig) -> NeedsScore | None:
    """Under `topk` a motion score decides which tubes carry a loss at all."""
    if settings.scope != "topk":
        return None
    why = "loss.motion.scope is 'topk', which picks tubes by their motion score"
    return NeedsScore(why, "--config.loss.motion.scope=dense")


def check_tubes(settings: MotionLossConfig, fewest: int, tubes: int) -> None:
    """Raises ValueError if I_h asks for more tubes than a mask hides."""
    if settings.scope == "topk" and settings.top_k > fewest:
        raise ValueError(
            f"loss.motion.top_k is {settings.top_k}, but a mask hides as few as {fewest} tubes of {tubes}; lower "
            "loss.motion.top_k or raise the masked share."
        )


def _median(values_BxMxD: jax.Array) -> jax.Array:
    return jnp.nanmedian(values_BxMxD, axis=(0, 1))


L1 = ErrorMeasure(motion_loss, jnp.abs, _median)
MOTION = Term(
    label="motion",
    unit="L1",
    settings=MotionLossConfig,
    measure=measure,
    error=True,
    by_motion=True,
    detail=detail,
    needs_score=needs_score,
    check_tubes=check_tubes,
)
