"""Relations between tokens: predicted features have the cosines of their targets (in the late history of SurgMotion).

It takes the place of the paper's affinities: a smooth L1 between Gram matrices, not a divergence of softmax rows.

Letters: B batch, M masked tokens of a clip, D feature width, r rows held at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least
from surgmotion_jax.pretrain.losses.term import Counts, Measured, Term, TermConfig, TermInputs, wide


@dataclass(frozen=True)
class RelationLossConfig(TermConfig):
    """Smooth L1 between the cosine Gram matrices of predictions and targets."""

    weight: float = 0.0  # its weight in the total (the authors' late history: 0.1); 0 leaves it out
    rows: int = 256  # rows of the Gram matrices held at a time

    def __post_init__(self) -> None:
        at_least("loss.relation.weight", self.weight, 0)
        at_least("loss.relation.rows", self.rows, 1)


def smooth_l1(difference: jax.Array) -> jax.Array:
    """x^2 / 2 within [-1, 1], |x| - 1/2 beyond."""
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * jnp.square(difference), size - 0.5)


def relation_loss(
    prediction_BxMxD: jax.Array, target_BxMxD: jax.Array, eligible_BxM: jax.Array, *, rows: int, eps: float = 1e-8
) -> jax.Array:
    """Mean over pairs of eligible tokens of smooth_l1(cos(zhat_i, zhat_j) - cos(z_i, z_j)); then the mean over clips.

    Clips without an eligible token count as 0. At most `rows` rows of the matrices exist at a time: each block of them
    is computed again for the gradient.
    """
    counted = eligible_BxM.astype(wide(prediction_BxMxD).dtype)
    unit = [_unit(x, eps) * counted[..., None] for x in (wide(prediction_BxMxD), wide(target_BxMxD))]
    batch, tokens, _ = prediction_BxMxD.shape
    rows = min(rows, tokens)
    blocks = -(-tokens // rows)

    def split(x_BxMxE: jax.Array) -> jax.Array:
        padded = jnp.pad(x_BxMxE, ((0, 0), (0, blocks * rows - tokens), (0, 0)))
        return padded.reshape(batch, blocks, rows, -1).swapaxes(0, 1)

    @jax.checkpoint
    def add(total_B: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        predicted_BxrxM, wanted_BxrxM = (
            jnp.einsum("brd,bmd->brm", rows_BxrxD, u_BxMxD) for rows_BxrxD, u_BxMxD in zip(block, unit, strict=True)
        )
        return total_B + smooth_l1(predicted_BxrxM - wanted_BxrxM).sum((1, 2)), None

    total_B, _ = jax.lax.scan(add, jnp.zeros(batch, unit[0].dtype), tuple(map(split, unit)))
    return (total_B / jnp.maximum(jnp.square(counted.sum(-1)), 1)).mean()


def _unit(x_BxMxD: jax.Array, eps: float) -> jax.Array:
    """Vectors of length 1; those shorter than eps are divided by it."""
    squares = jnp.square(x_BxMxD).sum(-1, keepdims=True)
    return x_BxMxD * jax.lax.rsqrt(jnp.maximum(squares, eps**2))


def measure(inputs: TermInputs, settings: RelationLossConfig) -> Measured:
    """The difference of the cosines between predictions from those between targets."""
    features = inputs.predicted_BxMxD, inputs.target_BxMxD, inputs.eligible_BxM
    return Measured(relation_loss(*features, rows=settings.rows))


def flops(settings: RelationLossConfig, counts: Counts) -> float:
    """Both Gram matrices, both again for the gradient, and two gradients of the predictions'."""
    del settings
    return 6 * 2 * counts.target**2 * counts.width


def working_bytes(settings: RelationLossConfig, counts: Counts) -> float:
    """Four float32 blocks of rows of the Gram matrices."""
    return 4 * 4 * counts.target * min(counts.target, settings.rows)


RELATION = Term(
    label="relation",
    unit="smooth L1",
    settings=RelationLossConfig,
    measure=measure,
    flops=flops,
    working_bytes=working_bytes,
)
