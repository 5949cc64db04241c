"""What decides which tokens are hidden, and which of them count as moving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from surgmotion_jax.checks import at_least, one_of


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
class MaskConfig:
    """Which tokens are hidden."""

    kind: str = "tube"  # tube (random columns, SurgMotion), motion (columns that move), multiblock (V-JEPA 2)
    ratios: tuple[float, ...] = (0.75, 0.80, 0.85, 0.90, 0.95)  # tube, motion: share hidden, one drawn per step
    temperature: float = 1.0  # motion: of the draw by z-scored saliency; large: uniform, near 0: the most salient
    sets: Mapping[str, BlockSet] = field(default_factory=_two_sets)  # multiblock: the mask sets of a step

    def __post_init__(self) -> None:
        one_of("mask.kind", self.kind, ("tube", "motion", "multiblock"))
        if self.kind != "multiblock" and not self.ratios:
            raise ValueError("mask.ratios is empty; give at least one share of tubes to hide, e.g. (0.9,).")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"mask.ratios holds {ratio}; a share of tubes lies strictly between 0 and 1.")
        if not self.temperature > 0:
            raise ValueError(f"mask.temperature is {self.temperature}; it must be greater than 0.")
        if self.kind == "multiblock" and not self.sets:
            raise ValueError("mask.sets is empty; kind 'multiblock' needs at least one set.")


@dataclass(frozen=True)
class SaliencyConfig:
    """The motion score of a tube."""

    kind: str = (
        "paper"  # paper (temporal difference + spatial contrast), flow (change that the camera does not explain), none
    )
    unit: str = "column"  # what a tube is: column (a patch through all time) or tubelet
    fov: str = "auto"  # auto: keep tubes outside or on the edge of the field of view out of the loss terms; none
    edge: int = 3  # pixels around the edge of the field of view that count as edge

    def __post_init__(self) -> None:
        one_of("saliency.kind", self.kind, ("paper", "flow", "none"))
        one_of("saliency.unit", self.unit, ("column", "tubelet"))
        one_of("saliency.fov", self.fov, ("auto", "none"))
        at_least("saliency.edge", self.edge, 0)
