"""A whole pretraining run: every section, and what they must agree on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.parallel.config import DistributedConfig, ParallelConfig
from surgmotion_jax.pretrain.config.augment import AugmentConfig
from surgmotion_jax.pretrain.config.images import ImagesConfig, check_images
from surgmotion_jax.pretrain.config.monitor import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.config.objective import ObjectiveConfig, check_momentum, check_objective
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.config.predicted import check_own_targets, check_visible
from surgmotion_jax.pretrain.config.run import CheckpointConfig, HeldoutConfig, InitConfig, RunConfig
from surgmotion_jax.pretrain.losses.table import active_terms, default_losses, term_settings
from surgmotion_jax.pretrain.losses.term import TermConfig
from surgmotion_jax.pretrain.sample.mask_kind import MaskConfig
from surgmotion_jax.pretrain.sample.masks import MASKS, mask_settings
from surgmotion_jax.pretrain.sample.saliencies import SALIENCIES, saliency_settings
from surgmotion_jax.pretrain.sample.saliency_kind import NeedsScore, SaliencyConfig
from surgmotion_jax.pretrain.sample.tube_masks import TubeMasks

# Sections that may differ between a run and its resumption without changing what is learnt.
RUN_SECTIONS = ("run", "checkpoint", "parallel", "distributed", "alarms", "heldout", "probe")
RUN_FIELDS = (
    "model.attention",
    "model.remat",
    "optim.offload",
    "loss.*.rows",
    "data.workers",
    "data.threads",
    "data.prefetch",
    "data.memory_gb",
    "data.stalled_s",
    "data.recheck",
    "data.sources.*.path",
    "images.path",
)


@dataclass(frozen=True)
class PretrainConfig:
    """A whole pretraining run."""

    seed: int = 0  # of parameters, data order, masks and augmentation
    steps: int = 60_000  # optimiser steps
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    mask: MaskConfig = field(default_factory=TubeMasks, metadata={"choices": mask_settings})
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig, metadata={"choices": saliency_settings})
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    loss: Mapping[str, TermConfig] = field(default_factory=default_losses, metadata={"entries": term_settings})
    optim: OptimConfig = field(default_factory=OptimConfig)
    heldout: HeldoutConfig = field(default_factory=HeldoutConfig)
    alarms: AlarmConfig = field(default_factory=AlarmConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    init: InitConfig = field(default_factory=InitConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        check_objective(self.objective, self.loss)
        check_momentum(self.objective, self.optim)
        check_visible(self.model, self.loss, self.objective.predicts)
        if not (self.objective.pixels or self.objective.source.teacher):
            check_own_targets(self.model)
        check_images(self.images, self.model, self.objective, self.optim, self.augment.crop)
        crop, patch = self.augment.crop, self.model.patch
        if crop % patch:
            raise ValueError(
                f"augment.crop {crop} is not divisible by model.patch {patch}; use {max(crop // patch, 1) * patch} "
                f"or {(crop // patch + 1) * patch}."
            )
        if self.data.frames % self.model.tubelet:
            raise ValueError(
                f"data.frames {self.data.frames} is not divisible by model.tubelet {self.model.tubelet}; "
                f"use a multiple of {self.model.tubelet}."
            )
        if min(self.data.canvas) < crop:
            raise ValueError(
                f"augment.crop {crop} is larger than data.canvas {self.data.canvas}; the crop is cut from the canvas, "
                "so raise data.canvas or lower augment.crop."
            )
        one_of("mask.kind", self.mask.kind, tuple(MASKS))
        one_of("saliency.kind", self.saliency.kind, tuple(SALIENCIES))
        SALIENCIES[self.saliency.kind].check(self.saliency, self.model)
        if not SALIENCIES[self.saliency.kind].scores:
            self._refuse_what_needs_a_score()

    def _refuse_what_needs_a_score(self) -> None:
        needs: list[NeedsScore | None] = [MASKS[self.mask.kind].needs_score(self.mask)]
        needs += [a.term.needs_score(a.settings) for a in active_terms(self.loss, self.objective.predicts)]
        for need in filter(None, needs):
            raise ValueError(
                f"{need.why}, but saliency.kind is {self.saliency.kind!r}; set --config.saliency.kind=paper or "
                f"{need.instead}."
            )

    @property
    def target_model(self) -> ModelConfig:
        """The architecture of the encoder whose features are predicted."""
        return self.objective.target_model(self.model)

    @property
    def grid(self) -> Grid:
        return self.model.grid(self.data.frames, self.augment.crop, self.augment.crop)


def as_dict(config: PretrainConfig) -> dict[str, Any]:
    """A config as nested plain dicts, for JSON and for comparison."""
    return dataclasses.asdict(config)
