"""Pretraining configuration: one frozen dataclass per section, one comment per field.

The ConfigDict that users override is built from these classes and turned back into them at the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.models.config import Grid, ModelConfig, at_least, one_of
from surgmotion_jax.parallel.config import DistributedConfig, ParallelConfig


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
class BlockSet:
    """One V-JEPA mask set: a union of equal blocks."""

    blocks: int = 8  # blocks in the union
    spatial: tuple[float, float] = (0.15, 0.15)  # share of a frame that one block covers
    temporal: tuple[float, float] = (1.0, 1.0)  # share of the clip's length that one block covers
    aspect: tuple[float, float] = (0.75, 1.5)  # height / width of a block
    target: float = 0.6  # share of tokens that are targets: the static count

    def __post_init__(self) -> None:
        at_least("mask.sets.*.blocks", self.blocks, 1)
        _between("mask.sets.*.target", self.target, 0.0, 1.0)
        for name in ("spatial", "temporal", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"mask.sets.*.{name} is {(low, high)}; it must satisfy 0 < low <= high.")


def _two_sets() -> Mapping[str, BlockSet]:
    return {"short": BlockSet(8, (0.15, 0.15), target=0.6), "long": BlockSet(2, (0.7, 0.7), target=0.8)}


@dataclass(frozen=True)
class MaskConfig:
    """Which tokens are hidden."""

    kind: str = "tube"  # tube (random columns, SurgMotion), multiblock (V-JEPA 2)
    ratios: tuple[float, ...] = (0.75, 0.80, 0.85, 0.90, 0.95)  # tube: share hidden, one drawn per step
    sets: Mapping[str, BlockSet] = field(default_factory=_two_sets)  # multiblock: the mask sets of a step

    def __post_init__(self) -> None:
        one_of("mask.kind", self.kind, ("tube", "multiblock"))
        if self.kind == "tube" and not self.ratios:
            raise ValueError("mask.ratios is empty; give at least one share of tubes to hide, e.g. (0.9,).")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise ValueError(f"mask.ratios holds {ratio}; a share of tubes lies strictly between 0 and 1.")
        if self.kind == "multiblock" and not self.sets:
            raise ValueError("mask.sets is empty; kind 'multiblock' needs at least one set.")


@dataclass(frozen=True)
class SaliencyConfig:
    """The motion score of a tube."""

    kind: str = "paper"  # paper (temporal difference + spatial contrast), none
    unit: str = "column"  # what a tube is: column (a patch through all time) or tubelet
    fov: str = "auto"  # auto: keep tubes outside or on the edge of the field of view out of the loss terms; none
    edge: int = 3  # pixels around the edge of the field of view that count as edge

    def __post_init__(self) -> None:
        one_of("saliency.kind", self.kind, ("paper", "none"))
        one_of("saliency.unit", self.unit, ("column", "tubelet"))
        one_of("saliency.fov", self.fov, ("auto", "none"))
        at_least("saliency.edge", self.edge, 0)


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

    def __post_init__(self) -> None:
        at_least("loss.affinity.weight", self.weight, 0)
        at_least("loss.affinity.rows", self.rows, 1)
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
class AlarmConfig:
    """Thresholds of the collapse gauges; crossing one is logged as an alarm."""

    rankme: float = 10.0  # effective rank of the held-out targets, at least
    prediction_std: float = 0.1  # mean per-dimension std of predictions over tokens, at least
    target_std: float = 0.1  # the same of targets, at least
    cosine: float = 0.98  # cosine of context and target features, at most
    after: int = 200  # steps before the first alarm: every run starts far from its features
    nonfinite_steps: int = 10  # consecutive skipped updates before the run stops


@dataclass(frozen=True)
class CheckpointConfig:
    """When the training state is saved, and what is kept."""

    every: int = 1000  # steps between checkpoints; the last step is always saved
    keep: int = 3  # newest checkpoints kept
    keep_every: int = 0  # keep every checkpoint whose step is a multiple, for ever; 0: none

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
RUN_SECTIONS = ("run", "checkpoint", "parallel", "distributed", "alarms", "heldout")
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
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    heldout: HeldoutConfig = field(default_factory=HeldoutConfig)
    alarms: AlarmConfig = field(default_factory=AlarmConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    init: InitConfig = field(default_factory=InitConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
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

    @property
    def grid(self) -> Grid:
        return self.model.grid(self.data.frames, self.augment.crop, self.augment.crop)


def as_dict(config: Any) -> Any:
    """A config as nested plain dicts, for JSON and for comparison."""
    import dataclasses

    return dataclasses.asdict(config)
