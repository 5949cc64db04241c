"""The table of mask kinds. Adding a line here is all that a new kind needs beside its own file.

Masks have static token counts and are drawn on device, keyed per sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.sample.block_masks import MULTIBLOCK
from surgmotion_jax.pretrain.sample.mask_kind import Draw, MaskConfig, MaskKind, MaskProgram, MaskSet, Scored
from surgmotion_jax.pretrain.sample.motion_masks import MOTION
from surgmotion_jax.pretrain.sample.tube_masks import TUBE

# Value of --config.mask.kind -> kind.
MASKS: dict[str, MaskKind[Any]] = {"tube": TUBE, "motion": MOTION, "multiblock": MULTIBLOCK}


def mask_settings() -> Mapping[str, type[MaskConfig]]:
    """What the `mask` section of a config may be, by its `kind`."""
    return {name: kind.settings for name, kind in MASKS.items()}


def mask_programs(settings: MaskConfig, grid: Grid) -> tuple[MaskProgram, ...]:
    """The programs that a config needs, e.g. one per ratio of tubes.

    Raises ValueError where a share would hide no tube or all of them.
    """
    return MASKS[settings.kind].programs(settings, grid)


def program_of_step(programs: Sequence[MaskProgram], seed: int, step: int) -> MaskProgram:
    """The program of a step: drawn from (seed, step) alone, so the same on every host and after every restart."""
    return programs[np.random.Generator(np.random.Philox(key=[seed, step])).integers(len(programs)).item()]


def draw_masks(
    program: MaskProgram, step_key: jax.Array, sample_key_B: jax.Array, scored: Scored | None = None
) -> tuple[MaskSet, ...]:
    """Draws the mask sets of a batch.

    Args:
      program: static counts.
      step_key: key of the step; V-JEPA draws one block size per step.
      sample_key_B: one key per sample, from its global index: masks depend neither on mesh nor on host count.
      scored: the batch's motion score, for kinds that need one.
    """
    assert program.settings is not None, "a program known by its counts alone draws nothing"
    return MASKS[program.settings.kind].draw(program, program.settings, Draw(step_key, sample_key_B, scored))
