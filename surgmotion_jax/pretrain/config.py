"""Pretraining configuration: one frozen dataclass per section, one comment per field.

The ConfigDict that users override is built from these classes and turned back into them at the door.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.models.config import Grid, ModelConfig, at_least, one_of
from surgmotion_jax.parallel.config import DistributedConfig, ParallelConfig
from surgmotion_jax.pretrain.mask_config import BlockSet, MaskConfig, SaliencyConfig  # noqa: F401 (all sections)
from surgmotion_jax.pretrain.monitor_config import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.objective_config import ObjectiveConfig, check_objective


def _between(name: str, got: float, low: float, high: float) -> None:
    if not low <= got <= high:
        raise ValueError(f"{name} is {got}; it must lie in {low}..{high}.")


@dataclass(frozen=True)
class AugmentConfig:
    """Random resized crop and flip, the same for all frames of a clip, on device."""

    crop: int = 224  # side of the square the encoder sees, in pixels
    scale: tuple[float, float] = (0.3, 1.0)  # area of the crop as a share of the canvas
    aspect: tuple[float, float] = (0.75, 1.35)  # width / height of the crop, log-uniform
    flip: float = 0.5  # probability of a horizontal flip

    def __post_init__(self) -> None:
        at_least("augment.crop", self.crop, 1)
        _between("augment.flip", self.flip, 0.0, 1.0)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"augment.scale is {self.scale}; it must satisfy 0 < low <= high <= 1.")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise ValueError(f"augment.aspect is {self.aspect}; it must satisfy 0 < low <= high.")


@dataclass(frozen=True)
class MotionLossConfig:
    """L_motion, motion-guided latent masked prediction."""

    weight: float = 1.0  # its weight in the total
    scope: str = "dense"  # topk: the paper's formula read literally; dense: every masked token, weighted by motion
    reduce: str = "auto"  # sum (total weight K + 1), mean (total weight 1); auto: sum under topk, mean under dense
    top_k: int = 3  # K tubes with the highest score (topk)
    gamma: float = 2.0  # temperature of their weights (topk)
    alpha: float = 2.0  # extra weight of the most moving token (dense); 0 is plain V-JEPA
    score_norm: str = "zscore"  # none, zscore, minmax over the clip's masked tubes (topk)

    def __post_init__(self) -> None:
        one_of("loss.motion.scope", self.scope, ("topk", "dense"))
        one_of("loss.motion.reduce", self.reduce, ("auto", "sum", "mean"))
        one_of("loss.motion.score_norm", self.score_norm, ("none", "zscore", "minmax"))
        at_least("loss.motion.top_k", self.top_k, 1)
        at_least("loss.motion.alpha", self.alpha, 0)
        at_least("loss.motion.weight", self.weight, 0)


@dataclass(frozen=True)
class AffinityLossConfig:
    """L_st, spatiotemporal affinity self-distillation."""

    weight: float = 0.1  # its weight in the total; 0 leaves it out
    tau: float = 0.1  # temperature
    rows: int = 256  # rows of the affinity matrices held at a time
    max_tokens: int = 0  # masked tokens of a clip that are compared, evenly spaced; 0: all

    def __post_init__(self) -> None:
        at_least("loss.affinity.weight", self.weight, 0)
        at_least("loss.affinity.rows", self.rows, 1)
        at_least("loss.affinity.max_tokens", self.max_tokens, 0)
        if self.max_tokens == 1:
            raise ValueError(
                "loss.affinity.max_tokens is 1, and a token alone has no affinity; use 0 (all) or 2 and more."
            )
        if not self.tau > 0:
            raise ValueError(f"loss.affinity.tau is {self.tau}; a temperature is positive.")


@dataclass(frozen=True)
class DiversityLossConfig:
    """L_var, spatiotemporal feature diversity regularisation (SFDR)."""

    weight: float = 0.3  # its weight in the total; 0 leaves it out
    sigma: float = 1.0  # standard deviation below which the hinge is active
    eps: float = 1e-4  # added to the variance inside the square root

    def __post_init__(self) -> None:
        at_least("loss.diversity.weight", self.weight, 0)
        at_least("loss.diversity.eps", self.eps, 0)


@dataclass(frozen=True)
class LossConfig:
    """L = motion.weight L_motion + affinity.weight L_st + diversity.weight L_var."""

    motion: MotionLossConfig = field(default_factory=MotionLossConfig)
    affinity: AffinityLossConfig = field(default_factory=AffinityLossConfig)
    diversity: DiversityLossConfig = field(default_factory=DiversityLossConfig)
    stop_gradient: bool = True  # False lets the gradient into the targets: features collapse; shows the gauges at work


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with schedules in steps."""

    batch: int = 256  # clips per step, over all devices and micro-batches
    accumulate: int = 1  # micro-batches per step
    lr: float = 0.0  # learning rate after warm-up; 0: 5.25e-4 * sqrt(batch / 3072)
    warmup_steps: int = 12_000  # linear warm-up
    warmup_from: float = 0.2  # learning rate of its start, as a share of lr
    schedule: str = "constant"  # after warm-up: constant, cosine, linear
    final_lr: float = 0.0  # learning rate at the end of cosine and linear
    decay_steps: int = 0  # steps over which the schedule runs; 0: all steps. V-JEPA runs 1.25 x the steps
    weight_decay: float = 0.04  # decoupled; biases, norms and unused mask tokens are left alone
    final_weight_decay: float = 0.04  # reached along a cosine
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 0.0  # largest global gradient norm; 0: no clipping
    ema: float = 0.99925  # momentum of the target encoder
    final_ema: float = 0.99925  # reached linearly
    moments_dtype: str = "float32"  # of AdamW's moments as stored; bfloat16 (rounded at random) halves them
    offload: bool = False  # keep the moments in the hosts' memory between updates (TPUs and GPUs)

    def __post_init__(self) -> None:
        one_of("optim.schedule", self.schedule, ("constant", "cosine", "linear"))
        one_of("optim.moments_dtype", self.moments_dtype, ("float32", "bfloat16"))
        at_least("optim.batch", self.batch, 1)
        at_least("optim.accumulate", self.accumulate, 1)
        if self.batch % self.accumulate:
            raise ValueError(
                f"optim.batch {self.batch} is not divisible by optim.accumulate {self.accumulate}; "
                "choose a number of micro-batches that divides the batch."
            )
        for name in ("lr", "warmup_steps", "final_lr", "decay_steps", "weight_decay", "clip"):
            at_least(f"optim.{name}", getattr(self, name), 0)
        _between("optim.ema", self.ema, 0.0, 1.0)
        _between("optim.final_ema", self.final_ema, 0.0, 1.0)

    @property
    def peak_lr(self) -> float:
        return self.lr or 5.25e-4 * (self.batch / 3072) ** 0.5


@dataclass(frozen=True)
class HeldoutConfig:
    """Evaluation on clips kept aside."""

    every: int = 1000  # steps between evaluations; the last step is always evaluated
    clips: int = 256  # clips evaluated, rounded down to whole batches
    batch: int = 64  # clips per evaluation batch

    def __post_init__(self) -> None:
        at_least("heldout.every", self.every, 1)
        at_least("heldout.batch", self.batch, 2)
        if self.clips < self.batch:
            raise ValueError(
                f"heldout.clips is {self.clips}, fewer than one batch (heldout.batch = {self.batch}); "
                "raise heldout.clips or lower heldout.batch."
            )


@dataclass(frozen=True)
class CheckpointConfig:
    """When the training state is saved, and what is kept."""

    every: int = 1000  # steps between checkpoints; the last step is always saved
    keep: int = 3  # newest checkpoints kept
    keep_every: int = 0  # keep every checkpoint whose step is a multiple, for ever; 0: none
    keep_best: str = ""  # also keep the checkpoint where this metric of the probe was highest, e.g. probe/knn

    def __post_init__(self) -> None:
        at_least("checkpoint.every", self.every, 1)
        at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True)
class InitConfig:
    """Where the parameters come from."""

    checkpoint: str = ""  # a pretraining workdir or converted weights to start from; empty: random weights
    parts: tuple[str, ...] = ("encoder", "predictor", "target")  # what to take of it, where it is there
    optimizer: bool = False  # take its optimiser moments too (V-JEPA 2's cool-down does)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("init.parts is empty; name at least one of encoder, predictor, target.")
        for part in self.parts:
            one_of("init.parts", part, ("encoder", "predictor", "target"))


@dataclass(frozen=True)
class RunConfig:
    """How the run behaves; nothing here changes what is learnt."""

    stop_at_step: int = 0  # stop early, as if the time were up, and save; 0: run to the end
    log_every: int = 10  # steps between metric lines
    tensorboard: str = "auto"  # auto: if tensorboardX is installed; on; off
    compilation_cache: str = "~/.cache/surgmotion_jax/compilation"  # reused by later starts; empty: none
    accept_changes: bool = False  # resume although the stored config differs
    stopped_code: int = 0  # exit code once SIGTERM has stopped and saved a run; launchers that restart failures want 75

    def __post_init__(self) -> None:
        one_of("run.tensorboard", self.tensorboard, ("auto", "on", "off"))
        at_least("run.log_every", self.log_every, 1)
        _between("run.stopped_code", self.stopped_code, 0, 255)


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
    import dataclasses

    return dataclasses.asdict(config)
