"""The start banner: what is about to run, before anything is compiled."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax

from surgmotion_jax.models.attention import AUTO, resolve_attention, settled
from surgmotion_jax.models.fused_attention import PACKED, why_not
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.image_branch import image_program, of_images
from surgmotion_jax.pretrain.losses.table import active_terms
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState, init_state


def parameter_count(tree: object) -> int:
    """Number of parameters of a tree of arrays or abstract arrays."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def bytes_per_device(tree: object) -> int:
    """Bytes that a tree of sharded (abstract) arrays takes on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def rival_line(config: PretrainConfig, programs: Sequence[MaskProgram]) -> dict[str, str]:
    """What a run that predicts pixels is compared with: plain V-JEPA at the same size. Other runs have no such line."""
    if not config.objective.pixels:
        return {}
    objective = dataclasses.replace(config.objective, kind="latent", weigh_motion=False)
    rival = dataclasses.replace(config, objective=objective)
    head = f"{objective.head} {describe_head(rival)}"
    return {"rival": f"{objective.kind} objective: {head}; {describe_work(rival, programs)}"}


def teacher_line(config: PretrainConfig, state: TrainState) -> dict[str, str]:
    """The frozen teacher; other runs have no such line."""
    if not config.objective.source.teacher:
        return {}
    model = config.target_model
    size = f"{model.variant}, {model.encoder.depth} x {model.encoder.width}"
    return {"teacher": f"{size}, {parameter_count(state.teacher) / 1e6:.2f} M parameters, frozen"}


def describe_targets(config: PretrainConfig) -> str:
    """The moving average, or what takes its place."""
    source = config.objective.source
    return f"EMA {config.optim.ema:g}" if source.averages else f"targets from the {source.title}, no EMA"


def describe_head(config: PretrainConfig) -> str:
    """The predictor of features or decoder of pixels: blocks, width, heads, parameters, width of its head."""
    head = config.objective.head_model(config.model)
    trunk = head.predictor_trunk
    shapes = jax.eval_shape(lambda: init_state(config).params[config.objective.head])
    return (
        f"{trunk.depth} x {trunk.width}, {trunk.heads} heads, "
        f"{parameter_count(shapes) / 1e6:.2f} M parameters, predicts {head.target_width} values a token"
    )


def describe_work(config: PretrainConfig, programs: Sequence[MaskProgram]) -> str:
    """Operations of a training step for each clip, by part; matrix products, counted analytically."""
    flops, clips = step_flops(config, programs), config.optim.batch * 1e9
    parts = {
        "encoder": flops.context,
        config.objective.head: flops.predictor,
        config.objective.source.title: flops.target,
        "gradients": flops.backward,
        "losses": flops.losses,
        "augmentation": flops.prepare,
    }
    listed = " + ".join(f"{value / clips:.3g} {name}" for name, value in parts.items() if value)
    return f"{flops.model / clips:.3g} GFLOP a clip and step = {listed}"


def describe_loss(config: PretrainConfig) -> str:
    """The terms of the loss with their weights."""
    terms = []
    for _, term, settings in active_terms(config.loss, config.objective.predicts):
        detail = term.detail(settings)
        terms.append(f"{settings.weight:g} {term.label}" + (f" ({detail})" if detail else ""))
    return f"{' + '.join(terms)} {config.objective.describe()}".rstrip() + f"; saliency {config.saliency.kind}"


def image_line(config: PretrainConfig) -> dict[str, str]:
    """The images of a step, where the config has some."""
    if not config.images.batch:
        return {}
    single = of_images(config)
    program, side = image_program(single), single.augment.crop
    text = (
        f"{single.optim.batch} a step, {side} x {side} px, {program.contexts[0]} context + {program.targets[0]} target "
        f"tokens, {100 * config.images.share:g} % of the gradient; {describe_loss(single)}"
    )
    return {"images": text}


def describe_attention(config: PretrainConfig, layout: MeshLayout, programs: Sequence[MaskProgram]) -> str:
    """The attention of the blocks; of a fused one also where another takes its place, and why."""
    name = config.model.attention
    model = resolve_attention(config.model, layout.platform) if name == AUTO else config.model
    predictor = config.objective.head_model(model).predictor_trunk
    sets = [pair for program in programs for pair in zip(program.contexts, program.targets, strict=True)]
    stacks = [("encoder", model.encoder, config.grid.tokens)]
    stacks += [("encoder", model.encoder, k) for k, _ in sets]
    stacks += [(config.objective.head, predictor, k + m) for k, m in sets]
    others = {
        f"{settled(trunk, tokens, layout).attention} over {tokens} tokens of the {part} ({reason})": None
        for part, trunk, tokens in stacks
        if model.attention in PACKED and (reason := why_not(trunk, tokens, layout.parts("heads"), layout.vmem_bytes))
    }
    return ", but ".join([model.attention, *([", ".join(others)] if others else [])])


def summarise(
    config: PretrainConfig, layout: MeshLayout, state: TrainState, programs: tuple[MaskProgram, ...]
) -> dict[str, str]:
    """Label -> text, in the order to print."""
    model, optim, grid = config.model, config.optim, config.grid
    trunk, mesh = model.encoder, dict(layout.mesh.shape)
    counts = {p.name: list(zip(p.contexts, p.targets, strict=True)) for p in programs}
    gradients = bytes_per_device(state.params)
    return {
        "encoder": f"{model.variant}, {trunk.depth} x {trunk.width}, {trunk.heads} heads, {model.positions}, "
        f"{parameter_count(state.params['encoder']) / 1e6:.2f} M parameters",
        config.objective.head: describe_head(config),
        **teacher_line(config, state),
        "clip": f"{config.data.frames} frames at {config.data.fps:g} fps, {config.augment.crop} x "
        f"{config.augment.crop} px -> {grid.tokens} tokens ({grid.time} x {grid.height} x {grid.width})",
        "masks": "; ".join(
            f"{name}: " + ", ".join(f"{k} context + {m} target" for k, m in sets) for name, sets in counts.items()
        ),
        **image_line(config),
        "loss": describe_loss(config),
        "work": describe_work(config, programs),
        **rival_line(config, programs),
        "batch": f"{optim.batch} clips a step = {layout.batch_parts} batch shards x "
        f"{optim.batch // layout.batch_parts // optim.accumulate} clips x {optim.accumulate} micro-batches",
        "schedule": f"{config.steps} steps, lr {optim.peak_lr:.3g} after {optim.warmup_steps} warm-up steps, "
        f"then {optim.schedule}; weight decay {optim.weight_decay:g}; {describe_targets(config)}",
        "tokens seen": f"{config.steps * optim.batch * grid.tokens:.3g} in {config.steps * optim.batch} clips",
        "mesh": f"data {mesh['data']} x fsdp {mesh['fsdp']} x tensor {mesh['tensor']} over {layout.mesh.size} "
        f"{jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es)",
        "memory": f"{bytes_per_device(state) / 1e9:.3f} GB state + {gradients / 1e9:.3f} GB gradients per device, "
        "before activations",
        "precision": f"{model.dtype} compute, float32 state, {optim.moments_dtype} moments"
        f"{' in host memory' if optim.offload else ''}; remat {model.remat}",
        "attention": describe_attention(config, layout, programs),
    }
