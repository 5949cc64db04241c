"""Motion masks: whole columns of patches hidden, drawn by their motion score.

Letters: B batch, P columns (spatial patches), h and w rows and columns of patches, U tubes of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.pretrain.sample.mask_kind import Draw, MaskKind, MaskProgram, MaskSet, split_columns
from surgmotion_jax.pretrain.sample.saliency import rescale_score
from surgmotion_jax.pretrain.sample.saliency_kind import NeedsScore
from surgmotion_jax.pretrain.sample.tube_masks import TubeMasks, ratio_programs

MOST_SALIENT = 3.0  # standard deviations beyond which a tube is not drawn more strongly


@dataclass(frozen=True)
class MotionMasks(TubeMasks):
    """Columns that move."""

    kind: str = "motion"
    temperature: float = 1.0  # motion: of the draw by z-scored saliency; large: uniform, near 0: the most salient

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"mask.temperature is {self.temperature}; it must be greater than 0.")


def needs_score(settings: MotionMasks) -> NeedsScore:
    """Without a score there is nothing to draw by."""
    return NeedsScore(
        f"mask.kind is {settings.kind!r}, which hides tubes by their motion score", "--config.mask.kind=tube"
    )


def draw(program: MaskProgram, settings: MotionMasks, given: Draw) -> tuple[MaskSet, ...]:
    """Columns drawn without replacement, the more salient more often."""
    assert given.scored is not None, "a kind that needs a score is given one"
    logits = tube_logits(*given.scored, settings.temperature)
    return split_columns(jax.vmap(_ranks)(given.sample_key_B, logits), program)


def tube_logits(score_BxU: jax.Array, inside_Bxhxw: jax.Array, temperature: float) -> jax.Array:
    """How strongly each column is drawn by motion masks, [B,P] float32, all equal where all scores are.

    The z-score of a column's saliency over the clip's columns inside the field of view, within +-3, over the
    temperature. Columns outside are drawn like the least salient one inside, whatever their score: never favoured, but
    drawn where the static count asks for more columns than lie inside.
    """
    inside_BxP = inside_Bxhxw.reshape(len(inside_Bxhxw), -1)
    score_BxP = score_BxU.reshape(len(score_BxU), -1, inside_BxP.shape[1]).mean(1)
    salient_BxP = jnp.clip(rescale_score(score_BxP, inside_BxP, "zscore"), -MOST_SALIENT, MOST_SALIENT)
    least_Bx1 = jnp.where(inside_BxP, salient_BxP, MOST_SALIENT).min(1, keepdims=True)
    least_Bx1 = jnp.where(inside_BxP.any(1, keepdims=True), least_Bx1, 0.0)
    return jnp.where(inside_BxP, salient_BxP, least_Bx1) / temperature


def _ranks(key: jax.Array, logit_P: jax.Array) -> jax.Array:
    """Ranks [P] of columns drawn one after another without replacement, in proportion to exp(logit) (Gumbel top-k)."""
    drawn_P = logit_P + jax.random.gumbel(key, logit_P.shape)
    return jnp.argsort(jnp.argsort(-drawn_P))


MOTION = MaskKind(MotionMasks, ratio_programs, draw, needs_score)
