"""Masks with static token counts, drawn on device, keyed per sample.

Letters: B batch, N tokens, P columns (spatial patches), K context tokens, M target tokens, J blocks.

PyTorch V-JEPA draws unions of blocks of varying size and then truncates every sample of a batch to the smallest count,
keeping the first tokens in raster order: late frames are lost and about a quarter of the tokens are neither context
nor target. Here the counts are fixed before compilation. A union smaller than the target count is topped up with the
tokens nearest to its blocks; a larger one is thinned evenly in time. Every token is context or target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.config.masks import BlockSet, MaskConfig
from surgmotion_jax.pretrain.sample.saliency import rescale_score

MOST_SALIENT = 3.0  # standard deviations beyond which a tube is not drawn more strongly


class MaskSet(NamedTuple):
    """Token numbers, ascending: what the encoder sees and what is predicted. Together they are all tokens."""

    context_BxK: jax.Array
    target_BxM: jax.Array


@dataclass(frozen=True)
class MaskProgram:
    """What one compilation of the training step needs to know: static counts and how masks are drawn."""

    name: str
    grid: Grid
    targets: tuple[int, ...]  # number of target tokens of each mask set
    ratio: float | None  # tube ratio, or None for blocks
    sets: tuple[BlockSet, ...] = ()
    temperature: float | None = None  # of a draw by saliency, or None where saliency plays no part

    @property
    def contexts(self) -> tuple[int, ...]:
        return tuple(self.grid.tokens - m for m in self.targets)


def mask_programs(config: MaskConfig, grid: Grid) -> tuple[MaskProgram, ...]:
    """The programs that a config needs: one per ratio of tubes, or one for its block sets.

    Raises ValueError where a ratio would hide no tube or all of them.
    """
    if config.kind == "multiblock":
        names = sorted(config.sets)  # by name, since masks are keyed by the set's number and mappings come in any order
        sets = tuple(config.sets[n] for n in names)
        shares = zip(names, sets, strict=True)
        targets = tuple(_columns(f"mask.sets.{n}.target", s.target, grid) * grid.time for n, s in shares)
        return (MaskProgram("multiblock", grid, targets, None, sets),)
    temperature = config.temperature if config.kind == "motion" else None
    return tuple(
        MaskProgram(
            f"{config.kind} {ratio:g}",
            grid,
            (_columns("mask.ratios", ratio, grid) * grid.time,),
            ratio,
            temperature=temperature,
        )
        for ratio in config.ratios
    )


def _columns(name: str, share: float, grid: Grid) -> int:
    count = round(share * grid.columns)
    if not 0 < count < grid.columns:
        raise ValueError(
            f"{name}: a share of {share:g} of {grid.columns} tubes ({grid.height} x {grid.width}) hides {count}; "
            f"it must hide at least 1 and at most {grid.columns - 1}."
        )
    return count


def program_of_step(programs: Sequence[MaskProgram], seed: int, step: int) -> MaskProgram:
    """The program of a step: drawn from (seed, step) alone, so the same on every host and after every restart."""
    return programs[np.random.Generator(np.random.Philox(key=[seed, step])).integers(len(programs)).item()]


def draw_masks(
    program: MaskProgram, step_key: jax.Array, sample_key_B: jax.Array, logit_BxP: jax.Array | None = None
) -> tuple[MaskSet, ...]:
    """Draws the mask sets of a batch.

    Args:
      program: static counts.
      step_key: key of the step; V-JEPA draws one block size per step.
      sample_key_B: one key per sample, from its global index: masks depend neither on mesh nor on host count.
      logit_BxP: `tube_logits` of the batch, for programs with a temperature.
    """
    grid, sets = program.grid, []
    if program.ratio is not None:
        columns = program.targets[0] // grid.time
        if program.temperature is None:
            rank_BxP = jax.vmap(lambda key: jnp.argsort(jax.random.permutation(key, grid.columns)))(sample_key_B)
        else:
            assert logit_BxP is not None
            rank_BxP = jax.vmap(_motion_ranks)(sample_key_B, logit_BxP)
        priority_BxN = jnp.tile(rank_BxP < columns, grid.time).astype(jnp.float32)
        return (split_tokens(priority_BxN, program.targets[0]),)
    for i, (spec, count) in enumerate(zip(program.sets, program.targets, strict=True)):
        size = block_size(jax.random.uniform(jax.random.fold_in(step_key, i), (3,)), spec, grid)
        keys_B = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(sample_key_B)  # type: ignore[misc]
        draw = jax.vmap(lambda key, size=size, n=spec.blocks: block_priority(key, size, n, grid))  # type: ignore[misc]
        sets.append(split_tokens(draw(keys_B), count))
    return tuple(sets)


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


def _motion_ranks(key: jax.Array, logit_P: jax.Array) -> jax.Array:
    """Ranks [P] of columns drawn one after another without replacement, in proportion to exp(logit) (Gumbel top-k)."""
    drawn_P = logit_P + jax.random.gumbel(key, logit_P.shape)
    return jnp.argsort(jnp.argsort(-drawn_P))


def split_tokens(priority_BxN: jax.Array, targets: int) -> MaskSet:
    """The `targets` tokens of highest priority, and the rest; ties go to the earlier token, both sides ascending."""
    order_BxN = jnp.argsort(-priority_BxN, axis=-1, stable=True).astype(jnp.int32)
    return MaskSet(jnp.sort(order_BxN[:, targets:]), jnp.sort(order_BxN[:, :targets]))


def block_size(uniform_3: jax.Array, spec: BlockSet, grid: Grid) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Block (steps, rows, columns) from three uniform draws: the facebookresearch formula, half-even rounding."""

    def between(u: jax.Array, bounds: tuple[float, float]) -> jax.Array:
        return bounds[0] + u * (bounds[1] - bounds[0])

    steps = jnp.maximum(1, jnp.floor(grid.time * between(uniform_3[0], spec.temporal)))
    area = jnp.floor(grid.columns * between(uniform_3[1], spec.spatial))
    aspect = between(uniform_3[2], spec.aspect)
    rows = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, grid.height)
    columns = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, grid.width)
    return steps.astype(jnp.int32), rows.astype(jnp.int32), columns.astype(jnp.int32)


def block_priority(key: jax.Array, size: Sequence[jax.Array], blocks: int, grid: Grid) -> jax.Array:
    """Priority [N] of tokens for being targets, given `blocks` blocks of `size` at uniform origins.

    Inside the union: 2 - (rank among the step's inside tokens / their number), in (1, 2], so that thinning takes the
    same share from every step. Outside: falls with the distance to the nearest block, in (-inf, 0]. The random order
    behind ranks and ties is one per column, so whole columns come and go.
    """
    origin_key, order_key = jax.random.split(key)
    shape = jnp.array(tuple(grid))
    size_3 = jnp.stack(list(size))
    start_Jx3 = jnp.floor(jax.random.uniform(origin_key, (blocks, 3)) * (shape - size_3 + 1)).astype(jnp.int32)
    place_3xN = jnp.stack([axis.reshape(-1) for axis in jnp.indices(tuple(grid))])
    below_Jx3xN = start_Jx3[..., None] - place_3xN
    above_Jx3xN = place_3xN - (start_Jx3 + size_3 - 1)[..., None]
    gap_Jx3xN = jnp.maximum(0, jnp.maximum(below_Jx3xN, above_Jx3xN)).astype(jnp.float32)
    distance_N = jnp.sqrt(jnp.square(gap_Jx3xN).sum(1)).min(0)

    order_P = jax.random.uniform(order_key, (grid.columns,))
    inside_TxP = (distance_N == 0).reshape(grid.time, grid.columns)
    rank_TxP = jnp.argsort(jnp.argsort(jnp.where(inside_TxP, order_P, 2.0), axis=1), axis=1)
    share_TxP = rank_TxP / jnp.maximum(inside_TxP.sum(1, keepdims=True), 1)
    # Distances between neighbours on the grid differ by far more than 1e-3, so the random term only breaks ties.
    outside_TxP = -(distance_N.reshape(inside_TxP.shape) + 1e-3 * order_P)
    return jnp.where(inside_TxP, 2.0 - share_TxP, outside_TxP).reshape(-1)
