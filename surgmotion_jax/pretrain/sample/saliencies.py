"""The table of motion scores. Adding a line here is all that a new kind needs beside its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.sample.flow import FLOW
from surgmotion_jax.pretrain.sample.fov import field_of_view, patches_inside
from surgmotion_jax.pretrain.sample.normal_flow import NORMAL_FLOW
from surgmotion_jax.pretrain.sample.saliency import PAPER
from surgmotion_jax.pretrain.sample.saliency_kind import Clips, Saliency, SaliencyConfig


def no_score(clips: Clips, settings: SaliencyConfig, model: ModelConfig) -> jax.Array:
    """All columns alike, [B,U]."""
    del settings, model
    return jnp.zeros((len(clips.inside_Bxhxw), clips.inside_Bxhxw[0].size))


def accept(settings: SaliencyConfig, model: ModelConfig) -> None:
    """Any model will do."""
    del settings, model


# Value of --config.saliency.kind -> score.
SALIENCIES: dict[str, Saliency[Any]] = {
    "paper": PAPER,
    "flow": FLOW,
    "normal_flow": NORMAL_FLOW,
    "none": Saliency(no_score, SaliencyConfig, accept, scores=False),
}


def saliency_settings() -> Mapping[str, type[SaliencyConfig]]:
    """What the `saliency` section of a config may be, by its `kind`."""
    return {name: kind.settings for name, kind in SALIENCIES.items()}


def score_tubes(
    video01_BxTxHxWx3: jax.Array, settings: SaliencyConfig, model: ModelConfig
) -> tuple[jax.Array, jax.Array]:
    """Field of view of patches [B,h,w] bool and motion score of tubes [B,U]."""
    batch, _, height, width, _ = video01_BxTxHxWx3.shape
    inside = jnp.ones((batch, height // model.patch, width // model.patch), bool)
    pixels = jnp.ones((batch, height, width), bool)
    if settings.fov == "auto":
        pixels = field_of_view(video01_BxTxHxWx3)
        inside = patches_inside(pixels, model.patch, settings.edge)
    return inside, SALIENCIES[settings.kind].score(Clips(video01_BxTxHxWx3, pixels, inside), settings, model)
