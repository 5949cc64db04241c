"""The decoder of pixels: context features and positions of masked tokens in, the pixels of those tokens out.

VideoMAE's decoder (arXiv 2203.12602) and V-JEPA's predictor are one network: a linear map to a narrower width, a learnt
token at every masked place, transformer blocks over visible and masked tokens together, a norm, a linear head. So the
decoder here is the `Predictor` with a head as wide as a patch, and positions, attention, sharding, initialisation and
operation counts are the predictor's. What differs from VideoMAE is what our encoder already has: rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from surgmotion_jax.checks import at_least
from surgmotion_jax.models.config import ModelConfig, PredictorSettings, rotary_segment


@dataclass(frozen=True)
class DecoderSettings:
    """The decoder as the user sets it; VideoMAE takes half the encoder's width, 4 blocks, heads of 64."""

    width: int = 512  # width of its blocks
    depth: int = 4  # number of blocks
    heads: int = 8  # attention heads
    mlp: int = 0  # hidden units of its MLPs; 0: 4 x width

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("depth", 1), ("heads", 1), ("mlp", 0)):
            at_least(f"objective.decoder.{name}", getattr(self, name), least)
        if self.width % self.heads or rotary_segment(self.width // self.heads) < 2:
            raise ValueError(
                f"objective.decoder.width is {self.width} with {self.heads} heads; the heads must divide the width "
                "into parts of at least 6, as rotary positions need: change objective.decoder.heads."
            )


def decoder_model(model: ModelConfig, decoder: DecoderSettings) -> ModelConfig:
    """The model whose predictor is the decoder: same encoder, same computation, a head of `model.patch_values`.

    One mask token, not zero at the start, as VideoMAE has it.
    """
    settings = PredictorSettings(
        width=decoder.width,
        depth=decoder.depth,
        heads=decoder.heads,
        mlp=decoder.mlp,
        mask_tokens=1,
        mask_index=0,
        zero_init=False,
    )
    return replace(
        model,
        predictor=settings,
        v21=replace(model.v21, target_width=model.patch_values, context_projection=False),
    )
