"""The training step: one jitted function of (state, batch), with explicit shardings and donation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.models.attention import resolve_attention
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.optim.rates import step as optimizer_step
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain import schedules
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.image_branch import image_program, mixed_loss, of_images
from surgmotion_jax.pretrain.objective import Metrics, Prepared, RawBatch, loss_and_metrics, prepare
from surgmotion_jax.pretrain.optimizer import ema, make_optimizer
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState, abstract_state, on_device, shardings_of

Summed = tuple[Params, Metrics]  # gradients and metrics


def prepare_shards(
    batch: RawBatch, step: jax.Array, config: PretrainConfig, program: MaskProgram, layout: MeshLayout, training: bool
) -> Prepared:
    """`prepare` on every device's own rows: no communication, by construction."""
    run = partial(prepare, config=config, program=program, training=training)
    with jax.named_scope("prepare"):
        return layout.per_shard(run, (("batch",), ()), ("batch",))(batch, step)


def _gradients(
    state: TrainState, batch: RawBatch, config: PretrainConfig, program: MaskProgram, layout: MeshLayout
) -> tuple[Params, Metrics]:
    clips, images = batch._replace(images=None), batch.images
    prepared = prepare_shards(clips, state.step, config, program, layout, training=True)
    supplier = config.objective.source.supplier(state)
    if images is None:
        differentiate = jax.grad(loss_and_metrics, has_aux=True)
        return differentiate(state.params, supplier, prepared, config, layout, state.step)
    single = of_images(config)
    pictures = prepare_shards(images, state.step, single, image_program(single), layout, training=True)
    both = jax.grad(mixed_loss, has_aux=True)
    return both(state.params, supplier, prepared, pictures, config, layout, state.step)


def accumulated_gradients(
    state: TrainState, batch: RawBatch, config: PretrainConfig, program: MaskProgram, layout: MeshLayout
) -> tuple[Params, Metrics]:
    """Mean gradients and metrics over the micro-batches. SFDR then sees one micro-batch, spread over all devices."""
    count = config.optim.accumulate
    if count == 1:
        return _gradients(state, batch, config, program, layout)

    def split(x: jax.Array) -> jax.Array:
        # Row b goes to micro-batch b % count: every device keeps its own rows, whatever the mesh.
        parts = x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
        return layout.constrain(parts, (None, "batch"))

    def add(total: Summed, part: RawBatch) -> tuple[Summed, None]:
        return jax.tree.map(jnp.add, total, _gradients(state, part, config, program, layout)), None

    parts = jax.tree.map(split, batch)
    shapes = jax.eval_shape(lambda: _gradients(state, jax.tree.map(lambda x: x[0], parts), config, program, layout))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / count, total)


def train_step(
    state: TrainState, batch: RawBatch, *, config: PretrainConfig, program: MaskProgram, layout: MeshLayout
) -> tuple[TrainState, Metrics]:
    """Gradients, then `update`."""
    return update(state, *accumulated_gradients(state, batch, config, program, layout), config)


def update(state: TrainState, grads: Params, metrics: Metrics, config: PretrainConfig) -> tuple[TrainState, Metrics]:
    """The optimiser and the EMA. A non-finite loss or gradient leaves everything but the step counter unchanged."""
    optim, steps, averages = config.optim, config.steps, config.objective.source.averages
    norm = optax.tree.norm(grads)
    lr = schedules.learning_rate(state.step, optim, steps)
    decay = schedules.weight_decay(state.step, optim, steps)
    momentum = schedules.ema_momentum(state.step, optim, steps)
    state = state._replace(opt_state=on_device(state.opt_state)) if optim.offload else state
    params, opt_state = optimizer_step(make_optimizer(optim), grads, state.opt_state, state.params, lr, decay)
    target = ema(state.target, params["encoder"], momentum) if averages else state.target

    finite = jnp.isfinite(metrics["loss/total"]) & jnp.isfinite(norm)
    new = state._replace(params=params, target=target, opt_state=opt_state)
    kept = jax.tree.map(lambda n, o: o if n is o else jnp.where(finite, n, o), new, state)
    metrics |= {
        "optim/lr": lr,
        "optim/weight_decay": decay,
        "optim/grad_norm": norm,
        "optim/skipped": 1.0 - finite.astype(jnp.float32),
    }
    if averages:
        metrics |= {"ema/momentum": momentum, "ema/distance": distance(kept.target, kept.params["encoder"])}
    return kept._replace(step=state.step + 1), metrics


def distance(average: Params, online: Params) -> jax.Array:
    """How far the average is behind the online encoder, as a share of the latter's norm."""
    return optax.tree.norm(jax.tree.map(jnp.subtract, average, online)) / optax.tree.norm(online)


def abstract_batch(config: PretrainConfig, layout: MeshLayout, batch: int) -> RawBatch:
    """Shapes and shardings of a batch of `batch` clips."""
    height, width = config.data.canvas
    shapes = RawBatch(
        jax.ShapeDtypeStruct((batch, config.data.frames, height, width, 3), jnp.uint8),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((batch, config.data.frames), jnp.bool_),  # type: ignore[arg-type]
        jax.ShapeDtypeStruct((batch,), jnp.uint32),  # type: ignore[arg-type]
    )
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.batch), shapes)


def abstract_training_batch(config: PretrainConfig, layout: MeshLayout) -> RawBatch:
    """Shapes and shardings of what a training step takes: its clips, and images where the config has some."""
    clips = abstract_batch(config, layout, config.optim.batch)
    if not config.images.batch:
        return clips
    return clips._replace(images=abstract_batch(of_images(config), layout, config.images.batch))


def resolve(config: PretrainConfig, layout: MeshLayout) -> PretrainConfig:
    """`config` with `model.attention` 'auto' replaced by what the mesh's devices run best; otherwise the same."""
    model = resolve_attention(config.model, layout.mesh.devices.flat[0].platform)
    return config if model is config.model else dataclasses.replace(config, model=model)


def jit_train_step(config: PretrainConfig, program: MaskProgram, layout: MeshLayout) -> jax.stages.Wrapped:
    """The jitted step. The state is donated: the old one must not be used again."""
    config = resolve(config, layout)
    state = shardings_of(abstract_state(config, layout))
    return jax.jit(
        partial(train_step, config=config, program=program, layout=layout),
        in_shardings=(state, layout.batch),
        out_shardings=(state, layout.replicated),
        donate_argnums=0,
    )


def compile_train_step(
    config: PretrainConfig, program: MaskProgram, layout: MeshLayout, options: Mapping[str, str] | None = None
) -> jax.stages.Compiled:
    """The step compiled ahead of time for one mask program, with XLA's `options`; has `memory_analysis()`."""
    abstract = abstract_state(config, layout), abstract_training_batch(config, layout)
    return jit_train_step(config, program, layout).lower(*abstract).compile(dict(options or {}))
