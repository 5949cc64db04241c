"""The frozen teacher: its architecture and place, from the manifest of its weights, before anything is compiled."""

from __future__ import annotations

import dataclasses

from surgmotion_jax.checkpoints.errors import CheckpointError
from surgmotion_jax.checkpoints.retention import read_manifest
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.models.architecture import architecture, model_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.setup.initial import Initial

PLACES = ("target", "params/encoder")  # of a checkpoint; the moving average first, as in evaluation


def with_teacher(config: PretrainConfig) -> PretrainConfig:
    """The config with the architecture of the teacher that it names; any other config as it is.

    Raises CheckpointMissing where there are no weights, ValueError for a teacher that cuts clips into other tokens.
    """
    if not config.objective.source.teacher:
        return config
    return taught_by(config, model_of(read_manifest(find_weights(config.objective.teacher)).architecture))


def taught_by(config: PretrainConfig, teacher: ModelConfig) -> PretrainConfig:
    """The config with a teacher of this architecture, whose width the predictor then predicts.

    Raises ValueError unless both cut clips alike.
    """
    model = config.model
    for name in ("patch", "tubelet"):
        own, given = getattr(model, name), getattr(teacher, name)
        if own != given:
            raise ValueError(
                f"objective.teacher has model.{name} {given}, this config {own}, so their tokens differ; set "
                f"--config.model.{name}={given} or choose another teacher."
            )
    if config.images.batch and not teacher.v21.modality:
        raise ValueError(
            f"images.batch is {config.images.batch}, but objective.teacher has no tokenizer of images; set "
            "--config.images.batch=0 or choose a teacher of V-JEPA 2.1."
        )
    objective = dataclasses.replace(config.objective, teacher_model=model_of(architecture(teacher)))
    if model.target_width != teacher.context_width:
        v21 = dataclasses.replace(model.v21, target_width=teacher.context_width)
        model = dataclasses.replace(model, v21=v21)
    return dataclasses.replace(config, objective=objective, model=model)


def plan_teacher(config: PretrainConfig) -> Initial:
    """What fills the teacher of a new run. Raises CheckpointError for weights without an encoder."""
    checkpoint = find_weights(config.objective.teacher)
    tree = read_manifest(checkpoint).tree
    place = next((place for place in PLACES if any(path.startswith(f"{place}/") for path in tree)), None)
    if place is None:
        raise CheckpointError(f"{checkpoint}: objective.teacher holds no encoder; name a workdir or converted weights.")
    return Initial(str(checkpoint), {"teacher": place}, (f"teacher: {place} of {checkpoint}, frozen",))
