"""A whole pretraining run: every section, and what they must agree on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from surgmotion_jax.checks import at_least
from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.parallel.config import DistributedConfig, ParallelConfig
from surgmotion_jax.pretrain.config.augment import AugmentConfig
from surgmotion_jax.pretrain.config.loss import LossConfig
from surgmotion_jax.pretrain.config.masks import MaskConfig, SaliencyConfig
from surgmotion_jax.pretrain.config.monitor import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.config.objective import ObjectiveConfig, check_objective
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.config.run import CheckpointConfig, HeldoutConfig, InitConfig, RunConfig

# Sections that may differ between a run and its resumption without changing what is learnt.
RUN_SECTIONS = ("run", "checkpoint", "parallel", "distributed", "alarms", "heldout", "probe")
RUN_FIELDS = (
    "model.attention",
    "model.remat",
    "optim.offload",
    "loss.affinity.rows",
    "data.workers",
    "data.threads",
    "data.prefetch",
    "data.memory_gb",
    "data.sources.*.path",
)


@dataclass(frozen=True)
class PretrainConfig:
    """A whole pretraining run."""

    seed: int = 0  # of parameters, data order, masks and augmentation
    steps: int = 60_000  # optimiser steps
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    loss: LossConfig = field(default_factory=LossConfig)
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
        if self.loss.motion.scope == "topk" and self.saliency.kind == "none":
            raise ValueError(
                "loss.motion.scope is 'topk', which picks tubes by their motion score, but saliency.kind is 'none'; "
                "set --config.saliency.kind=paper or --config.loss.motion.scope=dense."
            )
        if self.saliency.unit == "tubelet" and self.model.tubelet < 2 and self.saliency.kind != "none":
            raise ValueError(
                "saliency.unit='tubelet' needs model.tubelet of at least 2: a motion score needs two frames."
            )
        if self.mask.kind == "motion" and self.saliency.kind == "none":
            raise ValueError(
                "mask.kind is 'motion', which hides tubes by their motion score, but saliency.kind is 'none'; "
                "set --config.saliency.kind=paper or --config.mask.kind=tube."
            )
        if self.saliency.kind == "flow" and patch % 4:
            raise ValueError(
                f"saliency.kind 'flow' looks at a patch in quarters, but model.patch is {patch}; use a multiple of 4 "
                "or --config.saliency.kind=paper."
            )

    @property
    def grid(self) -> Grid:
        return self.model.grid(self.data.frames, self.augment.crop, self.augment.crop)


def as_dict(config: Any) -> Any:
    """A config as nested plain dicts, for JSON and for comparison."""
    return dataclasses.asdict(config)
