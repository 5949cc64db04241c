"""From a config to the mesh it trains on, chosen or given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax

from surgmotion_jax.parallel.auto_mesh import Demand, Row, choose_mesh, device_memory, slice_count
from surgmotion_jax.parallel.rules import mesh_axes, spec_of
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.state import init_state, parameter_axes, teacher_axes


def place(
    config: PretrainConfig, devices: Sequence[jax.Device], memory: int | None = None
) -> tuple[PretrainConfig, list[Row]]:
    """The config with its mesh decided, and the table that explains it: empty if parallel.mesh is 'given'.

    `memory` is what a program may take of one device, in bytes; None asks the device. Raises ValueError as
    `choose_mesh` does.
    """
    if config.parallel.mesh == "given":
        return config, []
    known = device_memory(devices[0]) if memory is None else memory
    sizes, table = choose_mesh(demand_of(config), len(devices), slice_count(devices), known)
    return dataclasses.replace(config, parallel=sizes), table


def demand_of(config: PretrainConfig) -> Demand:
    """What the config asks of a mesh, from shapes alone."""
    state = jax.eval_shape(lambda: init_state(config))
    head = config.objective.head_model(config.model).predictor_trunk
    split: dict[str, int] = {
        "fsdp": 0,
        "tensor": math.gcd(config.model.encoder.heads, head.heads, config.target_model.encoder.heads),
    }
    axes = {"params": parameter_axes(config), "teacher": teacher_axes(config)}
    narrowest = math.inf
    names = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    for leaf, leaf_names in zip(jax.tree.leaves((state.params, state.teacher)), names, strict=True):
        for size, entry in zip(leaf.shape, spec_of(leaf_names), strict=True):
            for axis in mesh_axes(entry):
                split[axis] = math.gcd(split[axis], size)
                narrowest = min(narrowest, size) if axis == "fsdp" else narrowest
    optim = config.optim
    batch = math.gcd(optim.batch // optim.accumulate, config.heldout.batch, config.images.batch // optim.accumulate)
    kept = _bytes(state) - (_bytes(state.opt_state) if optim.offload else 0)  # what is offloaded is the hosts'
    return Demand(kept + _bytes(state.params), batch, split["fsdp"], split["tensor"], int(narrowest))


def _bytes(tree: object) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
