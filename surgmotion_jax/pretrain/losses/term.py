"""What a loss term is: a function of one record and of its own frozen settings, with what is said of it elsewhere.

A new term is one file with a settings class, a function and a `Term`, and one entry of
`surgmotion_jax/pretrain/losses/table.py`. Flags, metrics, banner, ablation, cost and curves follow from the entry.

Letters: B batch, N tokens of the clip, K context tokens, M target tokens, C width of the encoder, D width of what is
predicted (features or the pixels of a patch).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.sample.mask_kind import MaskSet
from surgmotion_jax.pretrain.sample.saliency_kind import NeedsScore


class TermInputs(NamedTuple):
    """All that a term may look at, for one mask set of one (micro-)batch.

    Sums over B run over the whole global batch: under a mesh the compiler adds the reduction. Weights of a clip sum to
    1 unless the motion term says otherwise, and to 0 where the clip has no token that counts.
    """

    predicted_BxMxD: jax.Array  # predictions of the target tokens, float32
    target_BxMxD: jax.Array  # what they should be: features after a norm without affine, or pixels; float32
    all_targets_BxNxD: jax.Array  # the same of every token of the clip, in the order of the grid
    context_BxKxC: jax.Array  # the online encoder's tokens of the visible part
    context_predicted_BxKxD: jax.Array | None  # predictions of visible tokens, where the predictor makes them
    mask: MaskSet  # numbers of context and target tokens in the grid, ascending
    grid: Grid
    weight_BxM: jax.Array  # how much each target token counts in the prediction error
    plain_BxM: jax.Array  # the same without motion: all tokens of real frames alike
    eligible_BxM: jax.Array  # bool: of a real frame and inside the field of view
    real_BxN: jax.Array  # bool: token of a real frame, not of padding
    key: jax.Array  # of this step and mask set, the same on every device
    step: jax.Array  # number of the step, int32


class Measured(NamedTuple):
    """A term's value before weighting, and gauges to log beside it: a name after `gauge/`, and a scalar."""

    value: jax.Array
    gauges: Mapping[str, jax.Array] = MappingProxyType({})


@dataclass(frozen=True)
class TermConfig:
    """Settings that every term has: its weight in the total. A term of weight 0 is not computed."""

    switch: ClassVar[str] = "weight"  # the field that makes the term what it is; 0 is without it

    weight: float = 0.0  # its weight in the total; 0 leaves it out

    def off(self) -> Self:
        """The same settings without what the term adds to plain prediction, for an ablation."""
        return dataclasses.replace(self, weight=0.0)


class Counts(NamedTuple):
    """Numbers of one clip and mask set, for arithmetic about cost."""

    context: int
    target: int
    tokens: int
    width: int  # of what is predicted


C = TypeVar("C", bound=TermConfig)


def _says_nothing(settings: TermConfig) -> str:
    del settings
    return ""


def _costs_nothing(settings: TermConfig, counts: Counts) -> float:
    del settings, counts
    return 0.0


def _in_full(settings: TermConfig, step: jax.Array) -> float:
    del settings, step
    return 1.0


def _needs_no_score(settings: TermConfig) -> NeedsScore | None:
    del settings
    return None


def _accepts(settings: TermConfig, fewest: int, tubes: int) -> None:
    del settings, fewest, tubes


@dataclass(frozen=True)
class Term(Generic[C]):
    """One entry of the table."""

    label: str  # in banner, ablation table and rows
    unit: str  # of its value before weighting
    settings: type[C]  # its section of the config
    measure: Callable[[TermInputs, C], Measured]
    of: Literal["features", "pixels"] = "features"  # the predictions that it can judge
    error: bool = False  # the objective's own prediction error; under another objective it is left out silently
    by_motion: bool = False  # weighs by the motion score
    over_batch: bool = False  # statistics over the whole micro-batch, which more micro-batches change
    visible: bool = False  # judges the predictions of visible tokens, which the predictor then has to make
    share: Callable[[C, jax.Array], jax.Array | float] = _in_full  # of its weight that counts at a step
    detail: Callable[[C], str] = _says_nothing  # what the banner adds in brackets
    flops: Callable[[C, Counts], float] = _costs_nothing  # operations of a clip with their gradients; 0: negligible
    working_bytes: Callable[[C, Counts], float] = _costs_nothing  # held briefly for a clip; 0: negligible
    needs_score: Callable[[C], NeedsScore | None] = _needs_no_score  # why these settings need a motion score
    check_tubes: Callable[[C, int, int], None] = _accepts  # raises ValueError: (settings, fewest hidden, of how many)


@dataclass(frozen=True)
class ErrorMeasure:
    """The error by which held-out predictions are judged, and the constant prediction that makes it smallest."""

    mean: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # of predictions, targets [B,M,D], weights [B,M]
    of_value: Callable[[jax.Array], jax.Array]  # of one difference
    best_constant: Callable[[jax.Array], jax.Array] = field(repr=False)  # [B,M,D] with NaN where nothing counts -> [D]


def wide(x: jax.Array) -> jax.Array:
    """`x` as float32, or as the wider type that it has."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
