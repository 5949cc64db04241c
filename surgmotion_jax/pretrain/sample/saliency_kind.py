"""What a kind of motion score is: its settings, what it needs of the model, and the score itself.

A new kind is one file with a score function and a `Saliency`, and one entry of
`surgmotion_jax/pretrain/sample/saliencies.py`.

Letters: B batch, T frames, H rows, W columns, h and w rows and columns of patches, U tubes of a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import jax

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.config import ModelConfig


@dataclass(frozen=True)
class SaliencyConfig:
    """The motion score of a tube."""

    # paper (change in time, contrast in space), flow (change that no camera explains), normal_flow (speed along the
    # gradient), none
    kind: str = "paper"
    unit: str = "column"  # what a tube is: column (a patch through all time) or tubelet
    fov: str = "auto"  # auto: keep tubes outside or on the edge of the field of view out of the loss terms; none
    edge: int = 3  # pixels around the edge of the field of view that count as edge

    def __post_init__(self) -> None:
        one_of("saliency.unit", self.unit, ("column", "tubelet"))
        one_of("saliency.fov", self.fov, ("auto", "none"))
        at_least("saliency.edge", self.edge, 0)


class Clips(NamedTuple):
    """What a score is computed from."""

    video01_BxTxHxWx3: jax.Array
    pixels_BxHxW: jax.Array  # bool: inside the field of view
    inside_Bxhxw: jax.Array  # bool: patches inside it, its edge left out


class NeedsScore(NamedTuple):
    """Why settings cannot do without a motion score, and the flag of settings that can."""

    why: str
    instead: str


def check_unit(settings: SaliencyConfig, model: ModelConfig) -> None:
    """Raises ValueError where a tube is too short to move."""
    if settings.unit == "tubelet" and model.tubelet < 2:
        raise ValueError("saliency.unit='tubelet' needs model.tubelet of at least 2: a motion score needs two frames.")


S = TypeVar("S", bound=SaliencyConfig)


@dataclass(frozen=True)
class Saliency(Generic[S]):
    """One entry of the table."""

    score: Callable[[Clips, S, ModelConfig], jax.Array]  # [B,U] float32
    settings: type[S]  # its section of the config
    check: Callable[[S, ModelConfig], None] = check_unit  # raises ValueError for a model that it cannot score
    scores: bool = True  # False: the score says nothing, and what needs one is refused
