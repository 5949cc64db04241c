"""From a raw batch to the loss: augmentation, saliency, masks, prediction, the three terms.

Letters: B batch, T frames, H rows, W columns, N tokens, K context tokens, M target tokens, P values of a patch,
C width, U tubes, h and w rows and columns of patches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.encoder import gather_tokens
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.pixels import normalise_pixels
from surgmotion_jax.models.transformer import normalise
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.pixels import pixel_targets, pixel_terms
from surgmotion_jax.pretrain.losses.terms import Spread, affinity_loss, diversity_loss, motion_loss, spread
from surgmotion_jax.pretrain.sample import saliency
from surgmotion_jax.pretrain.sample.augment import augment, centre
from surgmotion_jax.pretrain.sample.flow import flow_score
from surgmotion_jax.pretrain.sample.fov import field_of_view, patches_inside
from surgmotion_jax.pretrain.sample.masks import MaskProgram, MaskSet, draw_masks, tube_logits

# Streams of random draws, each a fold of the seed.
AUGMENT, SAMPLE_MASK, STEP_MASK = 0, 1, 2
TARGET_NORM_EPS = 1e-5  # the loss's layer norm has PyTorch's functional default, not the model's 1e-6


class RawBatch(NamedTuple):
    """What the host sends: uint8 clips, which frames are real, and each clip's global sample index."""

    video_BxTxHxWx3: jax.Array
    valid_BxT: jax.Array
    index_B: jax.Array


class TargetWeights(NamedTuple):
    """Per mask set: how much each target token counts in the motion term, and whether the other terms see it."""

    motion_BxM: jax.Array
    eligible_BxM: jax.Array
    plain_BxM: jax.Array


class Prepared(NamedTuple):
    """Everything about a batch that needs no parameters. Each array has a leading batch axis."""

    video01_BxTxHxWx3: jax.Array
    patches_BxNxP: jax.Array
    masks: tuple[MaskSet, ...]
    weights: tuple[TargetWeights, ...]
    score_BxU: jax.Array
    inside_Bxhxw: jax.Array
    top_BxU: jax.Array


def sample_keys(seed: int, stream: int, index_B: jax.Array) -> jax.Array:
    """One key per sample from its global index, so that draws depend neither on mesh nor on host count."""
    key = jax.random.fold_in(jax.random.key(seed), stream)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index_B)


def prepare(
    batch: RawBatch, step: jax.Array, *, config: PretrainConfig, program: MaskProgram, training: bool
) -> Prepared:
    """Augments, finds field of view and saliency, draws masks. Per sample: runs on each device's own shard."""
    if training:
        video01 = augment(batch.video_BxTxHxWx3, sample_keys(config.seed, AUGMENT, batch.index_B), config.augment)
    else:
        video01 = centre(batch.video_BxTxHxWx3, config.augment)
    inside, score = score_tubes(video01, config)
    step_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), STEP_MASK), step)
    logits = None if program.temperature is None else tube_logits(score, inside, program.temperature)
    masks = draw_masks(program, step_key, sample_keys(config.seed, SAMPLE_MASK, batch.index_B), logits)
    weighed = [weigh_targets(m, score, inside, batch.valid_BxT, config) for m in masks]
    patches = backbone_of(config.model).patchify(normalise_pixels(video01))
    return Prepared(
        video01,
        patches.astype(config.model.dtype),
        masks,
        tuple(w for w, _ in weighed),
        score,
        inside,
        weighed[0][1],
    )


def score_tubes(video01: jax.Array, config: PretrainConfig) -> tuple[jax.Array, jax.Array]:
    """Field of view of patches [B,h,w] bool and motion score of tubes [B,U]."""
    patch, tubelet, grid = config.model.patch, config.model.tubelet, config.grid
    settings = config.saliency
    batch = video01.shape[0]
    inside = jnp.ones((batch, grid.height, grid.width), bool)
    pixels = jnp.ones((batch, *video01.shape[2:4]), bool)
    if settings.fov == "auto":
        pixels = field_of_view(video01)
        inside = patches_inside(pixels, patch, settings.edge)
    if settings.kind == "none":
        return inside, jnp.zeros((batch, grid.columns))
    if settings.kind == "flow":
        return inside, flow_score(video01, pixels, patch, tubelet, settings.unit)
    return inside, saliency.motion_score(video01, patch, tubelet, settings.unit, inside)


def weigh_targets(
    mask: MaskSet, score_BxU: jax.Array, inside_Bxhxw: jax.Array, valid_BxT: jax.Array, config: PretrainConfig
) -> tuple[TargetWeights, jax.Array]:
    """Weights of one mask set's targets, and the tubes I_h [B,U].

    Tokens of padded frames count nowhere; tokens outside or on the edge of the field of view keep the plain weight of
    the dense scope but stay out of I_h, of motion weights, of affinity and of SFDR.
    """
    grid, motion = config.grid, config.loss.motion
    batch = score_BxU.shape[0]
    columns = jnp.arange(batch)[:, None]
    masked_BxN = jnp.zeros((batch, grid.tokens), bool).at[columns, mask.target_BxM].set(True)
    valid_BxN = jnp.repeat(valid_BxT.reshape(batch, grid.time, -1).all(-1), grid.columns, axis=1)
    masked_BxN &= valid_BxN
    eligible_BxN = masked_BxN & jnp.tile(inside_Bxhxw.reshape(batch, -1), (1, grid.time))
    eligible_BxU = saliency.tube_tokens(eligible_BxN, score_BxU.shape[1]) > 0
    top_BxU = saliency.top_tubes(score_BxU, eligible_BxU, motion.top_k)
    if motion.scope == "topk":
        weight_BxN = saliency.topk_token_weights(score_BxU, masked_BxN, eligible_BxU, grid, motion)
    else:
        score_BxN = saliency.per_token(score_BxU, grid)
        weight_BxN = saliency.dense_token_weights(score_BxN, masked_BxN, eligible_BxN, motion)
    plain_BxN = masked_BxN / jnp.maximum(masked_BxN.sum(-1, keepdims=True), 1)

    def at_targets(x_BxN: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x_BxN, mask.target_BxM, axis=1)

    return TargetWeights(at_targets(weight_BxN), at_targets(eligible_BxN), at_targets(plain_BxN)), top_BxU


class Prediction(NamedTuple):
    """One mask set's forward pass."""

    predicted_BxMxC: jax.Array
    target_BxMxC: jax.Array
    context_BxKxC: jax.Array


def targets_of(encoder: Any, patches_BxNxP: jax.Array, config: PretrainConfig, layout: Layout) -> jax.Array:
    """Features of all tokens, layer-normed without affine: [B,N,C] float32."""
    tokens = backbone_of(config.model).encode(encoder, patches_BxNxP, grid=config.grid, layout=layout).tokens
    return normalise(tokens, TARGET_NORM_EPS)


def predict_targets(
    params: Any, patches_BxNxP: jax.Array, mask: MaskSet, config: PretrainConfig, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """Encodes the context alone, predicts the targets. Returns (predictions [B,M,C] float32, context [B,K,C]).

    Under the pixel objective predictions are of pixels, [B,M,P].
    """
    grid: Grid = config.grid
    head = config.objective
    visible = gather_tokens(patches_BxNxP, mask.context_BxK)
    encoder, predictor = backbone_of(config.model), backbone_of(head.head_model(config.model)).predictor
    context = encoder.encode(params["encoder"], visible, mask.context_BxK, grid=grid, layout=layout).tokens
    ids = mask.context_BxK, mask.target_BxM
    predicted = predictor.predict(params[head.head], context, *ids, grid=grid, layout=layout)
    return predicted.astype(jnp.float32), context


def loss_and_metrics(
    params: Any, target_encoder: Any, prepared: Prepared, config: PretrainConfig, layout: Layout
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L = L_motion + 0.1 L_st + 0.3 L_var (weights from config), each term per mask set, then the mean over sets.

    Under the pixel objective L is the squared error of pixels, and `target_encoder` is not used.
    """
    if config.objective.pixels:
        return pixel_loss_and_metrics(params, prepared, config, layout)
    encoder = jax.lax.stop_gradient(target_encoder) if config.loss.stop_gradient else params["encoder"]
    targets_BxNxC = targets_of(encoder, prepared.patches_BxNxP, config, layout)
    if config.loss.stop_gradient:
        targets_BxNxC = jax.lax.stop_gradient(targets_BxNxC)
    terms = []
    for mask, weights in zip(prepared.masks, prepared.weights, strict=True):
        predicted, context = predict_targets(params, prepared.patches_BxNxP, mask, config, layout)
        one = Prediction(predicted, gather_tokens(targets_BxNxC, mask.target_BxM), context)
        terms.append(set_terms(one, weights, config))
    return mean_over_sets(terms)


def pixel_loss_and_metrics(
    params: Any, prepared: Prepared, config: PretrainConfig, layout: Layout
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The squared error of the masked tokens' pixels, per mask set, then the mean over sets."""
    targets_BxNxP = pixels_of(prepared, config)
    terms = []
    for mask, weights in zip(prepared.masks, prepared.weights, strict=True):
        predicted, _ = predict_targets(params, prepared.patches_BxNxP, mask, config, layout)
        wanted = gather_tokens(targets_BxNxP, mask.target_BxM)
        kinds = (weights.plain_BxM, weights.motion_BxM, weights.eligible_BxM)
        terms.append(pixel_terms(predicted, wanted, *kinds, config))
    return mean_over_sets(terms)


def pixels_of(prepared: Prepared, config: PretrainConfig) -> jax.Array:
    """What the pixel objective predicts of every token: [B,N,P] float32."""
    model = config.model
    return pixel_targets(prepared.video01_BxTxHxWx3, model.patch, model.tubelet, config.objective.norm_pixels)


def mean_over_sets(terms: list[dict[str, jax.Array]]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss and metrics of a step from those of its mask sets."""
    metrics = {name: jnp.stack([t[name] for t in terms]).mean() for name in terms[0]}
    return metrics["loss/total"], metrics


def set_terms(one: Prediction, weights: TargetWeights, config: PretrainConfig) -> dict[str, jax.Array]:
    """The loss terms and gauges of one mask set."""
    loss = config.loss
    with jax.named_scope("losses"):
        motion = motion_loss(one.predicted_BxMxC, one.target_BxMxC, weights.motion_BxM)
        spread_of_prediction = spread(one.predicted_BxMxC, weights.eligible_BxM, loss.diversity.eps)
        diversity, active = diversity_loss(spread_of_prediction, loss.diversity.sigma)
        total = loss.motion.weight * motion + loss.diversity.weight * diversity
        terms = {"loss/motion": motion, "loss/diversity": diversity, "gauge/active_dims": active}
        if loss.affinity.weight:
            terms["loss/affinity"] = affinity_loss(
                one.predicted_BxMxC,
                one.target_BxMxC,
                weights.eligible_BxM,
                tau=loss.affinity.tau,
                rows=loss.affinity.rows,
                max_tokens=loss.affinity.max_tokens,
            )
            total += loss.affinity.weight * terms["loss/affinity"]
        l1 = motion_loss(one.predicted_BxMxC, one.target_BxMxC, weights.plain_BxM)
    return {"loss/total": total, "loss/l1": l1, **terms, **gauges(one, weights, spread_of_prediction, config)}


def gauges(one: Prediction, weights: TargetWeights, predicted: Spread, config: PretrainConfig) -> dict[str, jax.Array]:
    """Signs of collapse that cost next to nothing: feature spread, and cosine of mean context and target features."""
    wanted = spread(one.target_BxMxC, weights.eligible_BxM, config.loss.diversity.eps)
    context_BxC = normalise(one.context_BxKxC, TARGET_NORM_EPS).mean(1)
    target_BxC = one.target_BxMxC.mean(1)
    scale_B = jnp.linalg.norm(context_BxC, axis=-1) * jnp.linalg.norm(target_BxC, axis=-1)
    cosine_B = (context_BxC * target_BxC).sum(-1) / jnp.maximum(scale_B, 1e-12)
    return jax.lax.stop_gradient(
        {
            "gauge/prediction_std": predicted.std_D.mean(),
            "gauge/target_std": wanted.std_D.mean(),
            "gauge/context_target_cosine": cosine_B.mean(),
        }
    )
