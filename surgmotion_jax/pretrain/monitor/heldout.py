"""Evaluation on clips kept aside: is the loss better than knowing nothing about the clip?

Letters: B batch, N tokens, M target tokens, C width, D feature width, Q tubelet steps, I held-out clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.encoder import gather_tokens
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.table import ERRORS
from surgmotion_jax.pretrain.monitor.gauges import feature_ranks
from surgmotion_jax.pretrain.objective import (
    Prepared,
    RawBatch,
    feature_gauges,
    pixels_of,
    predict_targets,
    prediction_gauge,
    targets_of,
)
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState, abstract_state, shardings_of
from surgmotion_jax.pretrain.step import abstract_batch, prepare_shards

PICTURED = 4  # clips of a batch whose arrays are returned for the report


class Pictured(NamedTuple):
    """What the report shows of a few clips."""

    video01_BxTxHxWx3: jax.Array
    score_BxU: jax.Array
    inside_Bxhxw: jax.Array
    top_BxU: jax.Array
    target_BxM: jax.Array
    features_BxNxC: jax.Array
    error_BxM: jax.Array


class HeldoutBatch(NamedTuple):
    """Results on one batch: means, the Gram matrix of the features, pictures, mean features of each tubelet step."""

    metrics: dict[str, jax.Array]
    gram_CxC: jax.Array
    pictured: Pictured
    views_BxQxC: jax.Array | None = None


HeldoutStep = Callable[[TrainState, RawBatch], HeldoutBatch]


def heldout_step(
    state: TrainState, batch: RawBatch, *, config: PretrainConfig, program: MaskProgram, layout: MeshLayout
) -> HeldoutBatch:
    """The plain error on masked tokens, beside two predictors that do not know the clip.

    The error is L1 for features and squared for pixels, unweighted. `constant` is the best constant prediction of the
    same targets over all masked tokens of this batch: the median of each dimension for L1, the mean for squares.
    `shuffled` is the same model given the context of the next clip at the same positions. Features, their effective
    rank, spread and likeness to the context are those of the encoder that the run is for: the EMA encoder, or, where
    none is kept, the online one.
    """
    prepared = prepare_shards(batch, jnp.zeros((), jnp.int32), config, program, layout, training=False)
    source = config.objective.source
    features_BxNxC = targets_of(source.evaluated(state), prepared.patches_BxNxP, config, layout)
    targets_BxNxD = pixels_of(prepared, config) if config.objective.pixels else features_BxNxC
    if source.teacher:
        teacher = source.supplier(state)
        targets_BxNxD = targets_of(teacher, prepared.patches_BxNxP, config, layout, config.target_model)
    both = features_BxNxC, targets_BxNxD
    results = [_set_metrics(state, prepared, *both, i, config, layout) for i in range(len(prepared.masks))]
    metrics = {name: jnp.stack([r[0][name] for r in results]).mean() for name in results[0][0]}
    error_BxM = results[0][1]
    pictured = Pictured(
        prepared.video01_BxTxHxWx3,
        prepared.score_BxU,
        prepared.inside_Bxhxw,
        prepared.top_BxU,
        prepared.masks[0].target_BxM,
        features_BxNxC.astype(jnp.float16),
        error_BxM,
    )
    gram_CxC = jnp.einsum("bnc,bnd->cd", features_BxNxC, features_BxNxC, precision="highest")
    views_BxQxC = features_BxNxC.reshape(len(features_BxNxC), config.grid.time, config.grid.columns, -1).mean(2)
    return HeldoutBatch(metrics, gram_CxC, jax.tree.map(lambda x: x[:PICTURED], pictured), views_BxQxC)


def _set_metrics(
    state: TrainState,
    prepared: Prepared,
    features_BxNxC: jax.Array,
    targets_BxNxD: jax.Array,
    number: int,
    config: PretrainConfig,
    layout: MeshLayout,
) -> tuple[dict[str, jax.Array], jax.Array]:
    mask, weights = prepared.masks[number], prepared.weights[number]
    predicted, context = predict_targets(state.params, prepared.patches_BxNxP, mask, config, layout)
    others_patches = jnp.roll(prepared.patches_BxNxP, 1, axis=0)
    shuffled, _ = predict_targets(state.params, others_patches, mask, config, layout)
    target = gather_tokens(targets_BxNxD, mask.target_BxM)
    real = weights.plain_BxM > 0
    error = ERRORS[config.objective.predicts]
    constant_D = error.best_constant(jnp.where(real[..., None], target, jnp.nan))
    metrics = {
        "heldout/loss": error.mean(predicted, target, weights.plain_BxM),
        "heldout/constant": error.mean(jnp.broadcast_to(constant_D, target.shape), target, weights.plain_BxM),
        "heldout/shuffled": error.mean(shuffled, target, weights.plain_BxM),
        **prediction_gauge(predicted, weights.eligible_BxM, config),
        **feature_gauges(gather_tokens(features_BxNxC, mask.target_BxM), context, weights.eligible_BxM),
    }
    return metrics, jnp.where(real, error.of_value(predicted - target).mean(-1), jnp.nan)


def compile_heldout_step(config: PretrainConfig, program: MaskProgram, layout: MeshLayout) -> HeldoutStep:
    """The held-out step compiled ahead of time."""
    jitted = jax.jit(
        partial(heldout_step, config=config, program=program, layout=layout),
        in_shardings=(shardings_of(abstract_state(config, layout)), layout.batch),
        out_shardings=layout.replicated,
    )
    abstract = abstract_state(config, layout), abstract_batch(config, layout, config.heldout.batch)
    return jitted.lower(*abstract).compile()


def evaluate_heldout(
    step: HeldoutStep, state: TrainState, batches: Iterable[RawBatch], width: int = 0
) -> tuple[dict[str, float], Pictured]:
    """Means over the held-out batches with the gauges over all of them, and the first batch's pictures.

    `width` is that of one level of the encoder, if its features hold several.
    """
    metrics: list[dict[str, float]] = []
    views: list[np.ndarray] = []
    gram: np.ndarray | None = None
    first: Pictured | None = None
    for batch in batches:
        result = jax.device_get(step(state, batch))
        metrics.append({k: float(v) for k, v in result.metrics.items()})
        gram = result.gram_CxC if gram is None else gram + result.gram_CxC
        views += [] if result.views_BxQxC is None else [result.views_BxQxC]
        first = first or result.pictured
    assert gram is not None, "no held-out batch"
    assert first is not None
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    seen_IxQxC = np.concatenate(views) if views else None
    return means | feature_ranks(gram, seen_IxQxC, width or len(gram)), first
