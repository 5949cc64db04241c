"""The `objective` section of a config: what is predicted of the masked tokens, features or pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from surgmotion_jax.checks import one_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.pixel_decoder import DecoderSettings, decoder_model
from surgmotion_jax.pretrain.config.loss import LossConfig

HEADS = {"latent": "predictor", "pixel": "decoder"}  # the part of the state that predicts


@dataclass(frozen=True)
class ObjectiveConfig:
    """Features of the EMA encoder (V-JEPA, SurgMotion), or pixels (VideoMAE, the rival), on the same masked tokens."""

    kind: str = "latent"  # latent, pixel
    decoder: DecoderSettings = field(default_factory=DecoderSettings)  # pixel: takes the predictor's place
    norm_pixels: str = "patch"  # pixel: unit variance of each masked tube patch (MAE), of each channel of it, or none
    weigh_motion: bool = False  # pixel: weigh errors as loss.motion says; False: every masked token alike

    def __post_init__(self) -> None:
        one_of("objective.kind", self.kind, tuple(HEADS))
        one_of("objective.norm_pixels", self.norm_pixels, ("patch", "channel", "none"))

    @property
    def pixels(self) -> bool:
        """Whether pixels are predicted."""
        return self.kind == "pixel"

    @property
    def head(self) -> str:
        """Name, in the state's parameters, of the network that predicts."""
        return HEADS[self.kind]

    def head_model(self, model: ModelConfig) -> ModelConfig:
        """`model` with the network that predicts as its predictor: itself, or one with the decoder there."""
        return decoder_model(model, self.decoder) if self.pixels else model


def check_objective(objective: ObjectiveConfig, loss: LossConfig) -> None:
    """Raises ValueError where pixels are asked for together with terms that exist for features only."""
    if not objective.pixels:
        return
    extra = [f"loss.{name}.weight" for name in ("affinity", "diversity") if getattr(loss, name).weight]
    if extra:
        flags = " ".join(f"--config.{name}=0" for name in extra)
        raise ValueError(
            f"objective.kind is 'pixel', but {' and '.join(extra)} are not 0: affinity and diversity are terms of "
            f"predicted features. Set {flags}, or --config.objective.kind=latent."
        )
    if not loss.stop_gradient:
        raise ValueError(
            "objective.kind is 'pixel', but loss.stop_gradient is False: pixels have no gradient to stop. Set "
            "--config.loss.stop_gradient=True."
        )
    if objective.weigh_motion and loss.motion.scope == "topk":
        raise ValueError(
            "objective.weigh_motion is True and loss.motion.scope is 'topk', which leaves all but a few tubes without "
            "a loss; pixels take weights on every token: set --config.loss.motion.scope=dense."
        )
