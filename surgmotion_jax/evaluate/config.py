"""What an evaluation is made of. Every field has a default; what a benchmark needs otherwise is in its config.

Whatever is here decides the numbers. Where the encoder, the data and the results lie is said on the command line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from surgmotion_jax.checks import at_least, between, one_of
from surgmotion_jax.models.config import ATTENTIONS, DTYPES, REMAT_POLICIES

RECIPES = ("ours", "released")
RESIZES = ("letterbox", "squash", "center_crop")
HEADS = ("attentive", "linear", "knn", "dense", "patch_linear", "temporal", "constant")
POOLED_HEADS = ("linear", "knn", "temporal", "constant")
UNTRAINED_HEADS = ("knn", "constant")
FROZEN = "none"  # of finetune.blocks
TUNED_HEADS = ("attentive", "linear", "dense", "patch_linear")
WEIGHTINGS = ("none", "balanced", "inverse", "inverse_sqrt", "effective_number")
STRATEGIES = ("auto", "vmap", "loop")
CACHES = ("pooled", "tokens", "none")
INTERVALS = ("bca", "percentile")


@dataclass(frozen=True)
class DataConfig:
    """Which moments are scored, and what the encoder sees of each."""

    benchmark: str = "cholec80"  # a row of the catalogue
    protocol: str = ""  # one of its splits or folds, or several pooled (louo); empty: its first
    recipe: str = "ours"  # how windows are made; released: padding, indices, resizing of the SurgMotion scripts
    frames: int = 16  # of a window, the last one the scored moment
    fps: float = 1.0  # of a window; 0 spreads it evenly from the start of the case to the moment
    size: int = 256  # side of the square that the encoder sees, pixels
    resize: str = "letterbox"  # how a frame becomes a square: letterbox, squash, center_crop
    fraction: float = 1.0  # of the training cases
    train_windows: int = 0  # at most, spread evenly over the training moments; 0: all
    seed: int = 0  # draws the fraction

    def __post_init__(self) -> None:
        one_of("data.recipe", self.recipe, RECIPES)
        one_of("data.resize", self.resize, RESIZES)
        at_least("data.frames", self.frames, 1)
        at_least("data.size", self.size, 1)
        at_least("data.train_windows", self.train_windows, 0)
        if not 0 < self.fraction <= 1:
            raise ValueError(f"data.fraction is {self.fraction}; it is the share of training cases, in (0, 1]")
        if not (math.isfinite(self.fps) and self.fps >= 0):
            raise ValueError(f"data.fps is {self.fps}; give frames per second, or 0 to spread a window over its case")


@dataclass(frozen=True)
class ProbeSettings:
    """The head on the frozen features."""

    head: str = (
        "attentive"  # attentive, linear, knn, dense, patch_linear, temporal, constant (looks at nothing: chance)
    )
    depth: int = 4  # attentive: attention layers in all
    heads: int = 16  # attentive: attention heads
    norm_eps: float = 1e-5  # attentive: of its layer norms (facebookresearch 1e-5, Hugging Face 1e-6)
    attention: str = "auto"  # attentive: xla, cudnn (NVIDIA GPUs, bfloat16), splash, fused (TPUs); auto: what suits
    remat: str = "full"  # attentive: kept of a block for the backward pass: none (all), full (its input), dots, ...
    dtype: str = (
        "float32"  # computation of attentive, dense and temporal heads: float32, bfloat16; parameters stay float32
    )
    layers: tuple[int, ...] = ()  # dense, patch_linear: 0-based blocks that it reads; empty: four, evenly spaced
    width: int = 64  # dense: channels of a projected layer; temporal: hidden width
    stride: int = 1  # dense, patch_linear: pixels from one prediction to the next; what lies between is interpolated
    normed: bool = True  # patch_linear: each token has zero mean and unit variance first
    temporal: str = "tcn"  # temporal: tcn or gru
    neighbours: tuple[int, ...] = (5, 10, 20)  # knn: numbers of neighbours to choose from

    def __post_init__(self) -> None:
        one_of("probe.head", self.head, HEADS)
        one_of("probe.temporal", self.temporal, ("tcn", "gru"))
        for name in ("depth", "heads", "width", "stride"):
            at_least(f"probe.{name}", getattr(self, name), 1)
        one_of("probe.attention", self.attention, (*ATTENTIONS, "auto"))
        one_of("probe.remat", self.remat, REMAT_POLICIES)
        one_of("probe.dtype", self.dtype, DTYPES)
        if self.attention == "cudnn" and self.dtype != "bfloat16":
            raise ValueError(
                f"probe.attention is 'cudnn', which computes in bfloat16 only, but probe.dtype is {self.dtype!r}; set "
                "probe.dtype=bfloat16 or probe.attention=auto"
            )
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"probe.neighbours is {self.neighbours}; give one or more numbers from 1")


@dataclass(frozen=True)
class Grid:
    """Hyper-parameters: every learning rate with every weight decay. The default is the released one, 20 heads."""

    learning_rates: tuple[float, ...] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    weight_decays: tuple[float, ...] = (0.01, 0.1, 0.4, 0.8)

    def __post_init__(self) -> None:
        for name, values in (("learning_rates", self.learning_rates), ("weight_decays", self.weight_decays)):
            if not values or not all(math.isfinite(v) and v >= 0 for v in values) or len(set(values)) != len(values):
                raise ValueError(f"sweep.{name} is {values}; give one or more distinct numbers, none negative.")
        if 0 in self.learning_rates:
            raise ValueError(f"sweep.learning_rates is {self.learning_rates}; at a rate of 0 nothing is learnt.")

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """(learning rate, weight decay) of each head; the weight decay changes fastest."""
        return tuple((lr, wd) for lr in self.learning_rates for wd in self.weight_decays)


@dataclass(frozen=True)
class SweepConfig:
    """Heads trained at once: one for each pair of learning rate and weight decay."""

    learning_rates: tuple[float, ...] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    weight_decays: tuple[float, ...] = (0.01, 0.1, 0.4, 0.8)
    epochs: int = 1
    batch: int = 4  # moments of a step
    class_weights: str = "balanced"  # none, balanced, inverse, inverse_sqrt, effective_number
    strategy: str = "auto"  # vmap, loop, or auto: the faster of the two, measured on the first batch
    memory_gb: float = 0.0  # of a device; heads are trained in groups that fit. 0: what is free, where that is known
    save_every: int = 200  # steps from one checkpoint of the sweep to the next
    seed: int = 0  # of the first parameters and of the order of moments

    def __post_init__(self) -> None:
        one_of("sweep.class_weights", self.class_weights, WEIGHTINGS)
        one_of("sweep.strategy", self.strategy, STRATEGIES)
        for name in ("epochs", "batch", "save_every"):
            at_least(f"sweep.{name}", getattr(self, name), 1)
        _ = self.grid  # refuses rates and decays that cannot be
        if not (math.isfinite(self.memory_gb) and self.memory_gb >= 0):
            raise ValueError(f"sweep.memory_gb is {self.memory_gb}; give gigabytes, or 0: what is free on the device")

    @property
    def grid(self) -> Grid:
        """Learning rate and weight decay of every head."""
        return Grid(self.learning_rates, self.weight_decays)


@dataclass(frozen=True)
class FinetuneConfig:
    """Training the encoder together with its head, one copy of it for each pair of learning rate and weight decay."""

    blocks: str = FROZEN  # none (the encoder stays frozen), full (all of it is trained), last:N (its last N blocks)
    layer_decay: float = 0.75  # rate of a block, as a share of that of the block after it; the head has the full rate
    warmup: float = 0.1  # share of the steps over which rates rise; they fall by a cosine to 0 after it
    clip: float = 1.0  # largest global gradient norm; 0: no clipping
    moments_dtype: str = "float32"  # of the optimiser's moments as stored; bfloat16 (rounded at random) halves them
    remat: str = "full"  # kept of an encoder's block for the backward pass: none (all), full (its input), dots, ...
    flips: bool = False  # half of a step's windows are mirrored, left to right: where sides have no meaning
    shift: float = 0.0  # share of the side by which a step's windows are moved at most, edges repeated

    def __post_init__(self) -> None:
        if not re.fullmatch(r"none|full|last:[1-9]\d*", self.blocks):
            raise ValueError(
                f"finetune.blocks is {self.blocks!r}; it must be none (the encoder stays frozen), full (all of it is "
                "trained) or last:N (its last N blocks, N from 1)"
            )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"finetune.layer_decay is {self.layer_decay}; it is a share of a rate, in (0, 1]")
        between("finetune.warmup", self.warmup, 0, 1)
        at_least("finetune.clip", self.clip, 0)
        between("finetune.shift", self.shift, 0, 0.5)
        one_of("finetune.moments_dtype", self.moments_dtype, ("float32", "bfloat16"))
        one_of("finetune.remat", self.remat, REMAT_POLICIES)

    @property
    def trains(self) -> bool:
        """Whether anything of the encoder is trained."""
        return self.blocks != FROZEN


@dataclass(frozen=True)
class CacheConfig:
    """Which features are kept on disk, and how much of the machine computing them takes."""

    kind: str = "tokens"  # pooled: a vector a moment; tokens: all the head needs; none: computed when needed
    dtype: str = "float32"  # of stored features: float32 or float16
    batch: int = 8  # windows encoded at a time
    ahead: int = 2  # batches decoded while one is encoded

    def __post_init__(self) -> None:
        one_of("cache.kind", self.kind, CACHES)
        one_of("cache.dtype", self.dtype, ("float32", "float16"))
        at_least("cache.batch", self.batch, 1)
        at_least("cache.ahead", self.ahead, 1)


@dataclass(frozen=True)
class ReportConfig:
    """Intervals and what the page shows."""

    resamples: int = 2000  # bootstrap draws of test cases
    level: float = 0.95  # of the intervals
    method: str = "bca"  # bca or percentile
    seed: int = 0
    pictures: int = 6  # test cases shown as ribbons or overlays

    def __post_init__(self) -> None:
        one_of("report.method", self.method, INTERVALS)
        at_least("report.resamples", self.resamples, 1)
        at_least("report.pictures", self.pictures, 0)
        if not 0 < self.level < 1:
            raise ValueError(f"report.level is {self.level}; it must lie between 0 and 1")


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything that decides the numbers of an evaluation, apart from encoder and data."""

    data: DataConfig = field(default_factory=DataConfig)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)

    def __post_init__(self) -> None:
        if self.finetune.trains:
            self._check_finetune()
        if self.cache.kind == "pooled" and self.probe.head not in POOLED_HEADS:
            raise ValueError(
                f"cache.kind is pooled, but a head of kind {self.probe.head} reads all tokens; choose cache.kind "
                f"tokens or none, or probe.head of {', '.join(POOLED_HEADS)}"
            )

    def _check_finetune(self) -> None:
        asked = f"finetune.blocks is {self.finetune.blocks}, but"
        if self.probe.head not in TUNED_HEADS:
            raise ValueError(
                f"{asked} probe.head is {self.probe.head}, which is not trained window by window; choose "
                f"{', '.join(TUNED_HEADS)}, or finetune.blocks=none"
            )
        if self.cache.kind == "pooled":
            raise ValueError(
                f"{asked} cache.kind is pooled, and an encoder in training reads pixels; choose cache.kind tokens, "
                "which keeps the windows on disk, or none"
            )

    @property
    def result_fields(self) -> ConfigFields:
        """The fields that a repeated or resumed run must have equal, as plain JSON values: tuples become lists."""
        fields: ConfigFields = json.loads(json.dumps(dataclasses.asdict(self)))
        del fields["cache"]["ahead"], fields["sweep"]["save_every"], fields["sweep"]["memory_gb"]
        if self.probe.head in UNTRAINED_HEADS:
            fields["sweep"].clear()  # nothing is trained
        if not self.finetune.trains:
            del fields["finetune"]  # results of frozen encoders have no such section
        return fields


class ReportFields(TypedDict):
    """`ReportConfig` as JSON."""

    resamples: int
    level: float
    method: str
    seed: int
    pictures: int


class ConfigFields(TypedDict):
    """`EvaluateConfig` as JSON: by section, its fields."""

    data: dict[str, object]
    probe: dict[str, object]
    sweep: dict[str, object]
    cache: dict[str, object]
    report: ReportFields
    finetune: NotRequired[dict[str, object]]  # where the encoder was trained


def trained_part(fields: ConfigFields) -> str:
    """What of the encoder an evaluation trained: `finetune.blocks`, none where it was frozen."""
    return str(fields.get("finetune", {}).get("blocks", FROZEN))
