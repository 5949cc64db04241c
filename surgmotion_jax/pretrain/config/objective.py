"""The `objective` section of a config: what is predicted of the masked tokens, features or pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from surgmotion_jax.checks import one_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.pixel_decoder import DecoderSettings, decoder_model
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.losses.motion import MotionLossConfig
from surgmotion_jax.pretrain.losses.sigreg import SigregConfig
from surgmotion_jax.pretrain.losses.table import TERMS, active_terms, settings_of
from surgmotion_jax.pretrain.losses.term import TermConfig
from surgmotion_jax.pretrain.targets import SOURCES, TargetSource

HEADS = {"latent": "predictor", "pixel": "decoder"}  # the part of the state that predicts


@dataclass(frozen=True)
class ObjectiveConfig:
    """Features of an encoder (V-JEPA, SurgMotion), or pixels (VideoMAE, the rival), on the same masked tokens."""

    kind: str = "latent"  # latent, pixel
    targets: str = "ema"  # latent: features of the moving average (ema), a teacher (frozen), the encoder (online)
    teacher: str = ""  # frozen: a pretraining workdir or converted weights
    teacher_model: ModelConfig | None = None  # frozen: its architecture, which is read from the weights
    decoder: DecoderSettings = field(default_factory=DecoderSettings)  # pixel: takes the predictor's place
    norm_pixels: str = "patch"  # pixel: unit variance of each masked tube patch (MAE), of each channel of it, or none
    weigh_motion: bool = False  # pixel: weigh errors as loss.motion says; False: every masked token alike
    stop_gradient: bool = True  # False lets the gradient into the targets: features collapse; shows the gauges at work

    def __post_init__(self) -> None:
        one_of("objective.kind", self.kind, tuple(HEADS))
        one_of("objective.norm_pixels", self.norm_pixels, ("patch", "channel", "none"))
        one_of("objective.targets", self.targets, tuple(SOURCES))
        _check_teacher(self)

    @property
    def pixels(self) -> bool:
        """Whether pixels are predicted."""
        return self.kind == "pixel"

    @property
    def source(self) -> TargetSource:
        """Where features come from that are predicted."""
        return SOURCES[self.targets]

    def target_model(self, model: ModelConfig) -> ModelConfig:
        """The architecture of the encoder whose features are predicted, computed as `model` is."""
        if not self.source.teacher or self.teacher_model is None:
            return model
        return replace(self.teacher_model, attention=model.attention, remat=model.remat, dtype=model.dtype)

    @property
    def predicts(self) -> str:
        """What the terms of the loss judge."""
        return "pixels" if self.pixels else "features"

    @property
    def head(self) -> str:
        """Name, in the state's parameters, of the network that predicts."""
        return HEADS[self.kind]

    def head_model(self, model: ModelConfig) -> ModelConfig:
        """`model` with the network that predicts as its predictor: itself, or one with the decoder there."""
        return decoder_model(model, self.decoder) if self.pixels else model

    def describe(self) -> str:
        """What the terms of the loss leave open, for the banner; nothing for features."""
        if not self.pixels:
            return ""
        per = {"patch": "normalised per tube patch", "channel": "normalised per channel of a tube patch"}
        weights = "weighed by motion" if self.weigh_motion else "all masked tokens alike"
        return f"{per.get(self.norm_pixels, 'in [0, 1]')}, {weights}"


def _check_teacher(objective: ObjectiveConfig) -> None:
    """Raises ValueError where a teacher lacks, has no use, or would be trained."""
    wanted = objective.source.teacher
    if wanted and not objective.teacher:
        raise ValueError(
            f"objective.targets is {objective.targets!r}, but objective.teacher is empty; name a pretraining workdir "
            "or converted weights with --config.objective.teacher=DIR."
        )
    if objective.teacher and not wanted:
        raise ValueError(
            f"objective.teacher is {objective.teacher!r}, but objective.targets is {objective.targets!r}, which asks "
            "no teacher; set --config.objective.targets=frozen or --config.objective.teacher=''."
        )
    if wanted and not objective.stop_gradient:
        raise ValueError(
            f"objective.targets is {objective.targets!r}, but objective.stop_gradient is False: a frozen teacher takes "
            "no gradient. Set --config.objective.stop_gradient=True."
        )


def check_momentum(objective: ObjectiveConfig, optim: OptimConfig) -> None:
    """Raises ValueError where the momentum of the average contradicts the source of targets, which keeps none."""
    momentum = objective.source.momentum
    if momentum is None:
        return
    found = sorted({optim.ema, optim.final_ema} - {momentum})
    if found:
        follows = "a frozen teacher follows nothing" if momentum else "the encoder itself is followed at once"
        raise ValueError(
            f"objective.targets is {objective.targets!r}, but optim.ema and optim.final_ema are {optim.ema:g} and "
            f"{optim.final_ema:g}: {follows}; set --config.optim.ema={momentum:g} --config.optim.final_ema="
            f"{momentum:g}, or --config.objective.targets=ema."
        )


def check_objective(objective: ObjectiveConfig, loss: Mapping[str, TermConfig]) -> None:
    """Raises ValueError where a loss does not fit what is predicted, or has no term at all."""
    kind, of = objective.kind, objective.predicts
    extra = sorted(n for n, term in TERMS.items() if term.of != of and not term.error and loss[n].weight)
    if extra:
        fields = [f"loss.{name}.weight" for name in extra]
        flags = " ".join(f"--config.{name}=0" for name in fields)
        other = next(kind for kind in HEADS if kind != objective.kind)
        raise ValueError(
            f"objective.kind is {kind!r}, but {' and '.join(fields)} are not 0, weights of terms that cannot judge "
            f"predicted {of}. Set {flags}, or --config.objective.kind={other}."
        )
    if not any(active_terms(loss, of)):
        fields = [f"loss.{name}.weight" for name, term in TERMS.items() if term.of == of]
        raise ValueError(
            f"no term judges the predicted {of}: {', '.join(fields)} are 0; give one of them a weight, e.g. "
            f"--config.{fields[0]}=1."
        )
    _check_sigreg(objective, settings_of(loss, SigregConfig))
    if objective.pixels:
        _check_pixels(objective, settings_of(loss, MotionLossConfig))


def _check_sigreg(objective: ObjectiveConfig, sigreg: SigregConfig) -> None:
    """Raises ValueError where the term could move nothing."""
    if sigreg.weight and sigreg.of == "targets" and objective.stop_gradient:
        raise ValueError(
            "loss.sigreg.of is 'targets', but objective.stop_gradient is True, so that the term moves nothing; set "
            "--config.loss.sigreg.of=context or --config.objective.stop_gradient=False."
        )


def _check_pixels(objective: ObjectiveConfig, motion: MotionLossConfig) -> None:
    if not objective.source.averages:
        raise ValueError(
            f"objective.kind is 'pixel', but objective.targets is {objective.targets!r}: pixels are predicted of no "
            "encoder, and the average is kept for evaluation. Set --config.objective.targets=ema."
        )
    if not objective.stop_gradient:
        raise ValueError(
            "objective.kind is 'pixel', but objective.stop_gradient is False: pixels have no gradient to stop. Set "
            "--config.objective.stop_gradient=True."
        )
    if objective.weigh_motion and motion.scope == "topk":
        raise ValueError(
            "objective.weigh_motion is True and loss.motion.scope is 'topk', which leaves all but a few tubes without "
            "a loss; pixels take weights on every token: set --config.loss.motion.scope=dense."
        )
