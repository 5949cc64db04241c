"""The start banner: what is about to run, before anything is compiled."""

from __future__ import annotations

import math
from typing import Any

import jax

from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState


def parameter_count(tree: Any) -> int:
    """Number of parameters of a tree of arrays or abstract arrays."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def bytes_per_device(tree: Any) -> int:
    """Bytes that a tree of sharded (abstract) arrays takes on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


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
        "predictor": f"{model.predictor.depth} x {model.predictor.width}, {model.predictor.heads} heads, "
        f"{parameter_count(state.params['predictor']) / 1e6:.2f} M parameters",
        "clip": f"{config.data.frames} frames at {config.data.fps:g} fps, {config.augment.crop} x "
        f"{config.augment.crop} px -> {grid.tokens} tokens ({grid.time} x {grid.height} x {grid.width})",
        "masks": "; ".join(
            f"{name}: " + ", ".join(f"{k} context + {m} target" for k, m in sets) for name, sets in counts.items()
        ),
        "loss": f"{config.loss.motion.weight:g} motion ({config.loss.motion.scope}) + {config.loss.affinity.weight:g} "
        f"affinity + {config.loss.diversity.weight:g} diversity; saliency {config.saliency.kind}",
        "batch": f"{optim.batch} clips a step = {layout.batch_parts} batch shards x "
        f"{optim.batch // layout.batch_parts // optim.accumulate} clips x {optim.accumulate} micro-batches",
        "schedule": f"{config.steps} steps, lr {optim.peak_lr:.3g} after {optim.warmup_steps} warm-up steps, "
        f"then {optim.schedule}; weight decay {optim.weight_decay:g}; EMA {optim.ema:g}",
        "tokens seen": f"{config.steps * optim.batch * grid.tokens:.3g} in {config.steps * optim.batch} clips",
        "mesh": f"data {mesh['data']} x fsdp {mesh['fsdp']} x tensor {mesh['tensor']} over {layout.mesh.size} "
        f"{jax.devices()[0].device_kind} device(s), {jax.process_count()} process(es)",
        "memory": f"{bytes_per_device(state) / 1e9:.3f} GB state + {gradients / 1e9:.3f} GB gradients per device, "
        "before activations",
        "precision": f"{model.dtype} compute, float32 state, {optim.moments_dtype} moments"
        f"{' in host memory' if optim.offload else ''}; attention {model.attention}; remat {model.remat}",
    }
