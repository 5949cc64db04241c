"""Backbones by name. A new one is a file that offers `Backbone`, and an entry here."""

from __future__ import annotations

from collections.abc import Callable

from surgmotion_jax.checks import one_of
from surgmotion_jax.models.backbone import Backbone
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.vit import Vit
from surgmotion_jax.models.vjepa21 import Vjepa21

BACKBONES: dict[str, Callable[[ModelConfig], Backbone]] = {"vit": Vit, "vjepa21": Vjepa21}


def backbone_of(model: ModelConfig) -> Backbone:
    """The backbone that `model.backbone` names. Raises ValueError for a name without an entry."""
    one_of("model.backbone", model.backbone_name, tuple(BACKBONES))
    return BACKBONES[model.backbone_name](model)
