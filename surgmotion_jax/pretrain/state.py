"""The training state: arrays only, immutable, returned rather than changed."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.optim.ownership import map_owned
from surgmotion_jax.parallel.mesh import MeshLayout, laid_out
from surgmotion_jax.parallel.rules import parameter_shardings
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.optimizer import make_optimizer

Tree = TypeVar("Tree")

HOST = "pinned_host"  # the memory kind that holds what is offloaded


NO_NETWORK: Params = {}


class TrainState(NamedTuple):
    """Everything that training changes."""

    step: jax.Array  # finished steps; also the position in the data
    params: Params  # "encoder", and "predictor" or "decoder": online, float32
    target: Params  # EMA of the encoder, float32; empty under sources of targets that keep none
    opt_state: optax.OptState  # with what it keeps for every parameter in optim.moments_dtype
    teacher: Params = NO_NETWORK  # a frozen encoder, float32, which no step changes; empty where there is none


def init_state(config: PretrainConfig) -> TrainState:
    """A fresh state; the target is a copy of the encoder. Pure: jit it, so that the two do not share buffers.

    A frozen teacher has random weights until those of `objective.teacher` are put there.
    """
    encoder_key, predictor_key = jax.random.split(jax.random.key(config.seed))
    objective, source = config.objective, config.objective.source
    params = {
        "encoder": backbone_of(config.model).init(encoder_key),
        objective.head: backbone_of(objective.head_model(config.model)).predictor.init(predictor_key),
    }
    target = jax.tree.map(jnp.copy, params["encoder"]) if source.averages else NO_NETWORK
    teacher = backbone_of(config.target_model).init(encoder_key) if source.teacher else NO_NETWORK
    opt_state = make_optimizer(config.optim).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, target, opt_state, teacher)


def parameter_axes(config: PretrainConfig) -> dict[str, Params]:
    """Logical axis names of every parameter, in the tree of `TrainState.params`."""
    objective = config.objective
    return {
        "encoder": backbone_of(config.model).axes(),
        objective.head: backbone_of(objective.head_model(config.model)).predictor.axes(),
    }


def teacher_axes(config: PretrainConfig) -> Params:
    """Logical axis names of the frozen teacher, in the tree of `TrainState.teacher`."""
    return backbone_of(config.target_model).axes() if config.objective.source.teacher else NO_NETWORK


def abstract_state(config: PretrainConfig, layout: MeshLayout) -> TrainState:
    """Shapes, dtypes and shardings of the state, with nothing allocated.

    Raises ValueError naming parameter, dimension and mesh axis where the mesh does not fit the model, and where
    `optim.offload` asks for host memory that the devices cannot reach.
    """
    shapes = jax.eval_shape(lambda: init_state(config))
    shardings = parameter_shardings(layout.mesh, shapes.params, parameter_axes(config))
    params = jax.tree.map(laid_out, shapes.params, shardings)
    kept = jax.tree.map(laid_out, shapes.params, in_host_memory(shardings, layout)) if config.optim.offload else params
    return TrainState(
        step=laid_out(shapes.step, layout.replicated),
        params=params,
        target=jax.tree.map(laid_out, shapes.target, shardings["encoder"] if shapes.target else NO_NETWORK),
        opt_state=map_owned(
            lambda leaf, parameter: laid_out(leaf, parameter.sharding),
            lambda leaf: laid_out(leaf, layout.replicated),
            shapes.opt_state,
            kept,
        ),
        teacher=jax.tree.map(
            laid_out, shapes.teacher, parameter_shardings(layout.mesh, shapes.teacher, teacher_axes(config))
        ),
    )


def kept_for_parameters(state: TrainState) -> optax.OptState:
    """What the optimiser keeps for every parameter, without its counters and constants: the part that is offloaded."""
    return map_owned(lambda leaf, _: leaf, lambda _: None, state.opt_state, state.params)


def in_host_memory(shardings: Params, layout: MeshLayout) -> Params:
    """The same shardings in the memory of the hosts. Raises ValueError where the devices have none of their own.

    Devices that are only described, to compile for, name no memory at all: they are taken to have it.
    """
    device = layout.mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if kinds and HOST not in kinds:
        raise ValueError(
            f"optim.offload is True, but devices of kind {device.device_kind!r} reach no host memory {HOST!r} (only "
            f"{', '.join(kinds)}); set --config.optim.offload=False."
        )
    return jax.tree.map(lambda sharding: sharding.with_memory_kind(HOST), shardings)


def on_device(opt_state: optax.OptState) -> optax.OptState:
    """Within the step: the optimiser's state where the update computes; what is there already stays."""
    return jax.device_put(opt_state, jax.memory.Space.Device)


def shardings_of(abstract: Tree) -> Tree:
    """The shardings of a tree of abstract arrays."""
    return jax.tree.map(lambda x: x.sharding, abstract)  # type: ignore[no-any-return]


def create_state(config: PretrainConfig, layout: MeshLayout) -> TrainState:
    """A fresh state laid out on the mesh."""
    return jax.jit(lambda: init_state(config), out_shardings=shardings_of(abstract_state(config, layout)))()
