"""Multi-block masks (V-JEPA 2): unions of blocks, with static counts.

PyTorch V-JEPA draws unions of blocks of varying size and then truncates every sample of a batch to the smallest count,
keeping the first tokens in raster order: late frames are lost and about a quarter of the tokens are neither context
nor target. Here the counts are fixed before compilation. A union smaller than the target count is topped up with the
tokens nearest to its blocks; a larger one is thinned evenly in time. Every token is context or target.

Letters: N tokens, P columns (spatial patches), J blocks, T steps of tubelets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.sample.mask_kind import (
    Draw,
    MaskConfig,
    MaskKind,
    MaskProgram,
    MaskSet,
    columns_of,
    split_tokens,
)


@dataclass(frozen=True)
class BlockSet:
    """One V-JEPA mask set: a union of equal blocks."""

    blocks: int = 8  # blocks in the union
    spatial: tuple[float, float] = (0.15, 0.15)  # share of a frame that one block covers
    temporal: tuple[float, float] = (1.0, 1.0)  # share of the clip's length that one block covers
    aspect: tuple[float, float] = (0.75, 1.5)  # height / width of a block
    target: float = 0.6  # share of tokens that are targets: the static count

    def __post_init__(self) -> None:
        at_least("mask.sets.*.blocks", self.blocks, 1)
        if not 0 <= self.target <= 1:
            raise ValueError(f"mask.sets.*.target is {self.target}; it must lie in 0.0..1.0.")
        for name in ("spatial", "temporal", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"mask.sets.*.{name} is {(low, high)}; it must satisfy 0 < low <= high.")


def _two_sets() -> Mapping[str, BlockSet]:
    return {"short": BlockSet(8, (0.15, 0.15), target=0.6), "long": BlockSet(2, (0.7, 0.7), target=0.8)}


@dataclass(frozen=True)
class BlockMasks(MaskConfig):
    """Unions of blocks."""

    kind: str = "multiblock"
    sets: Mapping[str, BlockSet] = field(default_factory=_two_sets)  # multiblock: the mask sets of a step
    draw: str = "all"  # multiblock: all sets in each step, or one of them, drawn for the step

    def __post_init__(self) -> None:
        one_of("mask.draw", self.draw, ("all", "one"))
        if not self.sets:
            raise ValueError("mask.sets is empty; kind 'multiblock' needs at least one set.")


def _in_order(settings: BlockMasks) -> list[tuple[str, BlockSet]]:
    """The sets by name, since masks are keyed by the set's number and mappings come in any order."""
    return sorted(settings.sets.items(), key=lambda named: named[0])


def programs(settings: BlockMasks, grid: Grid) -> tuple[MaskProgram, ...]:
    """One program, which draws all sets, or one for each set."""
    named = _in_order(settings)
    targets = tuple(columns_of(f"mask.sets.{name}.target", spec.target, grid) * grid.time for name, spec in named)
    if settings.draw == "all":
        return (MaskProgram(settings.kind, grid, targets, settings),)
    return tuple(
        MaskProgram(f"{settings.kind} {name}", grid, (count,), replace(settings, sets={name: spec}))
        for (name, spec), count in zip(named, targets, strict=True)
    )


def draw(program: MaskProgram, settings: BlockMasks, given: Draw) -> tuple[MaskSet, ...]:
    """For each set one size of block, drawn for the step, and its places, drawn for each sample."""
    grid, sets = program.grid, []
    for i, ((_, spec), count) in enumerate(zip(_in_order(settings), program.targets, strict=True)):
        size = block_size(jax.random.uniform(jax.random.fold_in(given.step_key, i), (3,)), spec, grid)
        keys_B = jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(given.sample_key_B)  # type: ignore[misc]
        one = jax.vmap(lambda key, size=size, n=spec.blocks: block_priority(key, size, n, grid))  # type: ignore[misc]
        sets.append(split_tokens(one(keys_B), count))
    return tuple(sets)


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


MULTIBLOCK = MaskKind(BlockMasks, programs, draw)
