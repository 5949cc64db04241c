"""Tube masks (SurgMotion, VideoMAE): whole columns of patches hidden at random.

Letters: B batch, P columns (spatial patches).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.sample.mask_kind import (
    Draw,
    MaskConfig,
    MaskKind,
    MaskProgram,
    MaskSet,
    columns_of,
    split_columns,
)


@dataclass(frozen=True)
class TubeMasks(MaskConfig):
    """Random columns."""

    ratios: tuple[float, ...] = (0.75, 0.80, 0.85, 0.90, 0.95)  # tube, motion: share hidden, one drawn per step

    def __post_init__(self) -> None:
        if not self.ratios:
            raise ValueError("mask.ratios is empty; give at least one share of tubes to hide, e.g. (0.9,).")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"mask.ratios holds {ratio}; a share of tubes lies strictly between 0 and 1.")


def ratio_programs(settings: TubeMasks, grid: Grid) -> tuple[MaskProgram, ...]:
    """A program for each ratio."""
    counts = [columns_of("mask.ratios", ratio, grid) * grid.time for ratio in settings.ratios]
    names = [f"{settings.kind} {ratio:g}" for ratio in settings.ratios]
    return tuple(MaskProgram(name, grid, (m,), settings) for name, m in zip(names, counts, strict=True))


def draw(program: MaskProgram, settings: TubeMasks, given: Draw) -> tuple[MaskSet, ...]:
    """Every column as likely as any other."""
    del settings
    columns = program.grid.columns
    return split_columns(
        jax.vmap(lambda key: jnp.argsort(jax.random.permutation(key, columns)))(given.sample_key_B), program
    )


TUBE = MaskKind(TubeMasks, ratio_programs, draw)
