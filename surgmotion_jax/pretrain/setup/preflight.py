"""Everything that can be found wrong before data is read or a program compiled."""

from __future__ import annotations

from surgmotion_jax.models.attention import check_attention
from surgmotion_jax.parallel.mesh import MeshLayout, check_batch
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.table import active_terms
from surgmotion_jax.pretrain.sample.masks import MaskProgram, mask_programs
from surgmotion_jax.pretrain.state import TrainState, abstract_state


def check(config: PretrainConfig, layout: MeshLayout) -> tuple[tuple[MaskProgram, ...], TrainState]:
    """Mask programs and abstract state of a config that fits its mesh; ValueError naming the field otherwise."""
    model = config.model
    if config.data.holdout <= 0:
        raise ValueError("data.holdout is 0; the held-out loss needs clips kept aside, e.g. --config.data.holdout=0.1.")
    check_attention(model.attention, layout.mesh.devices.flat[0].platform, model.dtype)
    head = config.objective.head
    trunks = {"encoder": model.encoder, head: config.objective.head_model(model).predictor_trunk}
    trunks |= {"teacher": config.target_model.encoder} if config.objective.source.teacher else {}
    for name, trunk in trunks.items():
        tensor = layout.mesh.shape["tensor"]
        if trunk.heads % tensor:
            raise ValueError(
                f"the {name} has {trunk.heads} heads, not divisible by parallel.tensor {tensor}; choose a tensor size "
                f"that divides the heads of {' and '.join(trunks)}."
            )
    programs = mask_programs(config.mask, config.grid)
    check_terms(config, programs)
    check_batch("optim.batch", config.optim.batch, layout, config.optim.accumulate)
    check_batch("heldout.batch", config.heldout.batch, layout)
    if config.images.batch:
        check_batch("images.batch", config.images.batch, layout, config.optim.accumulate)
    return programs, abstract_state(config, layout)


def check_terms(config: PretrainConfig, programs: tuple[MaskProgram, ...]) -> None:
    """Raises ValueError if a term asks for more tubes than a mask hides."""
    per_tube = config.grid.time if config.saliency.unit == "column" else 1
    fewest = min(m for p in programs for m in p.targets) // per_tube
    for _, term, settings in active_terms(config.loss, config.objective.predicts):
        term.check_tubes(settings, fewest, config.grid.columns)
