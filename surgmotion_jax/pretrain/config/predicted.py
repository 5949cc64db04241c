"""What the network that predicts must offer for what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.losses.table import active_terms
from surgmotion_jax.pretrain.losses.term import TermConfig


def check_visible(model: ModelConfig, loss: Mapping[str, TermConfig], of: str) -> None:
    """Raises ValueError where a term judges predictions of visible tokens that the predictor does not make."""
    asking = [active.name for active in active_terms(loss, of) if active.term.visible]
    if asking and not model.v21.context_projection:
        fields = " and ".join(f"loss.{name}.weight" for name in asking)
        flags = " ".join(f"--config.loss.{name}.weight=0" for name in asking)
        raise ValueError(
            f"{fields} is not 0, but the predictor predicts masked tokens alone (model.v21.context_projection is "
            f"False); set --config.model.v21.context_projection=True, or {flags}."
        )


def check_own_targets(model: ModelConfig) -> None:
    """Raises ValueError where predictions have another width than the features of the run's own encoder."""
    if model.target_width != model.context_width:
        raise ValueError(
            f"model.v21.target_width is {model.v21.target_width}, the width of a teacher that distilled these weights, "
            f"but the targets of this run are {model.v21.outputs} x {model.encoder.width} wide, features of its own "
            "encoder; set --config.model.v21.target_width=0 (and leave the predictor out of init.parts)."
        )
