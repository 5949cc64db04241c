"""The training state: arrays only, immutable, returned rather than changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.parallel.rules import parameter_shardings
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.optimizer import init_moments

HOST = "pinned_host"  # the memory kind that holds offloaded moments


class TrainState(NamedTuple):
    """Everything that training changes."""

    step: jax.Array  # finished steps; also the position in the data
    params: dict[str, Any]  # "encoder", and "predictor" or "decoder": online, float32
    target: dict[str, Any]  # EMA of the encoder, float32
    moments: optax.OptState  # AdamW's, in optim.moments_dtype


def init_state(config: PretrainConfig) -> TrainState:
    """A fresh state; the target is a copy of the encoder. Pure: jit it, so that the two do not share buffers."""
    encoder_key, predictor_key = jax.random.split(jax.random.key(config.seed))
    objective = config.objective
    params = {
        "encoder": backbone_of(config.model).init(encoder_key),
        objective.head: backbone_of(objective.head_model(config.model)).predictor.init(predictor_key),
    }
    target = jax.tree.map(jnp.copy, params["encoder"])
    return TrainState(jnp.zeros((), jnp.int32), params, target, init_moments(config.optim, params))


def parameter_axes(config: PretrainConfig) -> dict[str, Any]:
    """Logical axis names of every parameter, in the tree of `TrainState.params`."""
    objective = config.objective
    return {
        "encoder": backbone_of(config.model).axes(),
        objective.head: backbone_of(objective.head_model(config.model)).predictor.axes(),
    }


def abstract_state(config: PretrainConfig, layout: MeshLayout) -> TrainState:
    """Shapes, dtypes and shardings of the state, with nothing allocated.

    Raises ValueError naming parameter, dimension and mesh axis where the mesh does not fit the model, and where
    `optim.offload` asks for host memory that the devices cannot reach.
    """
    shapes = jax.eval_shape(lambda: init_state(config))
    params = parameter_shardings(layout.mesh, shapes.params, parameter_axes(config))
    kept = in_host_memory(params, layout) if config.optim.offload else params
    moments = shapes.moments._replace(count=layout.replicated, mu=kept, nu=kept)
    shardings = TrainState(layout.replicated, params, params["encoder"], moments)  # type: ignore[arg-type]
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def in_host_memory(shardings: Any, layout: MeshLayout) -> Any:
    """The same shardings in the memory of the hosts. Raises ValueError where the devices have none of their own."""
    device = layout.mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST not in kinds:
        raise ValueError(
            f"optim.offload is True, but devices of kind {device.device_kind!r} reach no host memory {HOST!r} (only "
            f"{', '.join(kinds)}); set --config.optim.offload=False."
        )
    return jax.tree.map(lambda sharding: sharding.with_memory_kind(HOST), shardings)


def on_device(moments: optax.OptState) -> optax.OptState:
    """Within the step: moments where the update computes; those that are there already stay."""
    return jax.device_put(moments, jax.memory.Space.Device)


def shardings_of(abstract: Any) -> Any:
    """The shardings of a tree of abstract arrays."""
    return jax.tree.map(lambda x: x.sharding, abstract)


def create_state(config: PretrainConfig, layout: MeshLayout) -> TrainState:
    """A fresh state laid out on the mesh."""
    return jax.jit(lambda: init_state(config), out_shardings=shardings_of(abstract_state(config, layout)))()
