"""What a kind of mask is: its settings, the programs it compiles, and how it draws.

A new kind is one file with a settings class, two functions and a `MaskKind`, and one entry of
`surgmotion_jax/pretrain/sample/masks.py`. Its settings become flags of the `mask` section; kinds that have a setting in
common name it alike and share the flag.

Letters: B batch, N tokens, P columns (spatial patches), K context tokens, M target tokens, h and w rows and columns of
patches, U tubes of a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.sample.saliency_kind import NeedsScore


@dataclass(frozen=True)
class MaskConfig:
    """Which tokens are hidden. Each kind of mask has settings of its own beside its name."""

    kind: str = "tube"  # tube (random columns, SurgMotion), motion (columns that move), multiblock (V-JEPA 2)


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
    settings: MaskConfig | None = field(default=None, hash=False)  # None: known by its counts alone, never drawn

    @property
    def contexts(self) -> tuple[int, ...]:
        return tuple(self.grid.tokens - m for m in self.targets)


class Scored(NamedTuple):
    """The motion score of a batch, and its field of view."""

    score_BxU: jax.Array
    inside_Bxhxw: jax.Array


class Draw(NamedTuple):
    """What masks are drawn from."""

    step_key: jax.Array  # of the step: V-JEPA draws one block size per step
    sample_key_B: jax.Array  # of each sample, from its global index: the same on any mesh and any number of hosts
    scored: Scored | None = None  # present for kinds that need a score


M = TypeVar("M", bound=MaskConfig)


def _needs_no_score(settings: MaskConfig) -> NeedsScore | None:
    del settings
    return None


@dataclass(frozen=True)
class MaskKind(Generic[M]):
    """One entry of the table."""

    settings: type[M]  # what the `mask` section of the config holds under this kind
    programs: Callable[[M, Grid], tuple[MaskProgram, ...]]  # raises ValueError for shares that hide nothing or all
    draw: Callable[[MaskProgram, M, Draw], tuple[MaskSet, ...]]  # one set for each of the program's counts
    needs_score: Callable[[M], NeedsScore | None] = _needs_no_score


def columns_of(name: str, share: float, grid: Grid) -> int:
    """Number of columns in a share of them; ValueError, naming the field, if that is none or all."""
    count = round(share * grid.columns)
    if not 0 < count < grid.columns:
        raise ValueError(
            f"{name}: a share of {share:g} of {grid.columns} tubes ({grid.height} x {grid.width}) hides {count}; "
            f"it must hide at least 1 and at most {grid.columns - 1}."
        )
    return count


def split_columns(rank_BxP: jax.Array, program: MaskProgram) -> tuple[MaskSet, ...]:
    """One mask set that hides, through all time, the columns of lowest rank."""
    grid = program.grid
    hidden_BxN = jnp.tile(rank_BxP < program.targets[0] // grid.time, grid.time).astype(jnp.float32)
    return (split_tokens(hidden_BxN, program.targets[0]),)


def split_tokens(priority_BxN: jax.Array, targets: int) -> MaskSet:
    """The `targets` tokens of highest priority, and the rest; ties go to the earlier token, both sides ascending."""
    order_BxN = jnp.argsort(-priority_BxN, axis=-1, stable=True).astype(jnp.int32)
    return MaskSet(jnp.sort(order_BxN[:, targets:]), jnp.sort(order_BxN[:, :targets]))
