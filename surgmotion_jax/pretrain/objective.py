"""From a raw batch to the loss: augmentation, saliency, masks, prediction, the terms of the loss.

Letters: B batch, T frames, H rows, W columns, N tokens, K context tokens, M target tokens, P values of a patch,
C width, D width of what is predicted (features or pixels), U tubes, h and w rows and columns of patches.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.encoder import gather_tokens
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.pixels import normalise_pixels
from surgmotion_jax.models.transformer import normalise
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.losses.diversity import spread
from surgmotion_jax.pretrain.losses.motion import MotionLossConfig, motion_loss, token_weights
from surgmotion_jax.pretrain.losses.pixels import pixel_targets
from surgmotion_jax.pretrain.losses.table import active_terms, predicts_visible, settings_of
from surgmotion_jax.pretrain.losses.term import TermInputs
from surgmotion_jax.pretrain.sample.augment import augment, centre
from surgmotion_jax.pretrain.sample.mask_kind import Scored
from surgmotion_jax.pretrain.sample.masks import MaskProgram, MaskSet, draw_masks
from surgmotion_jax.pretrain.sample.saliencies import score_tubes
from surgmotion_jax.pretrain.sample.saliency import top_tubes, tube_tokens

Metrics = dict[str, jax.Array]

# Streams of random draws, each a fold of the seed.
AUGMENT, SAMPLE_MASK, STEP_MASK, TERMS = 0, 1, 2, 3
TARGET_NORM_EPS = 1e-5  # the loss's layer norm has PyTorch's functional default, not the model's 1e-6


class RawBatch(NamedTuple):
    """What the host sends: uint8 clips, which frames are real, and each clip's global sample index.

    `images` are those of the same step, clips of one frame, where a run has images.
    """

    video_BxTxHxWx3: jax.Array
    valid_BxT: jax.Array
    index_B: jax.Array
    images: RawBatch | None = None


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
    real_BxN: jax.Array


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
    inside, score = score_tubes(video01, config.saliency, config.model)
    keys = step_key(config.seed, STEP_MASK, step), sample_keys(config.seed, SAMPLE_MASK, batch.index_B)
    masks = draw_masks(program, *keys, Scored(score, inside))
    real = real_tokens(batch.valid_BxT, config.grid)
    weighed = [weigh_targets(m, score, inside, real, config) for m in masks]
    patches = backbone_of(config.model).patchify(normalise_pixels(video01).astype(config.model.dtype))
    return Prepared(
        video01,
        patches,
        masks,
        tuple(w for w, _ in weighed),
        score,
        inside,
        weighed[0][1],
        real,
    )


def step_key(seed: int, stream: int, step: jax.Array) -> jax.Array:
    """The key of a step, the same on every device."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)


def real_tokens(valid_BxT: jax.Array, grid: Grid) -> jax.Array:
    """Tokens all of whose frames are real, [B,N] bool."""
    return jnp.repeat(valid_BxT.reshape(len(valid_BxT), grid.time, -1).all(-1), grid.columns, axis=1)


def weigh_targets(
    mask: MaskSet, score_BxU: jax.Array, inside_Bxhxw: jax.Array, real_BxN: jax.Array, config: PretrainConfig
) -> tuple[TargetWeights, jax.Array]:
    """Weights of one mask set's targets, and the tubes I_h [B,U].

    Tokens of padded frames count nowhere; tokens outside or on the edge of the field of view keep the plain weight of
    the dense scope but stay out of I_h, of motion weights, and of all terms that ask for eligible tokens.
    """
    grid, motion = config.grid, settings_of(config.loss, MotionLossConfig)
    batch = score_BxU.shape[0]
    columns = jnp.arange(batch)[:, None]
    masked_BxN = jnp.zeros((batch, grid.tokens), bool).at[columns, mask.target_BxM].set(True)
    masked_BxN &= real_BxN
    eligible_BxN = masked_BxN & jnp.tile(inside_Bxhxw.reshape(batch, -1), (1, grid.time))
    eligible_BxU = tube_tokens(eligible_BxN, score_BxU.shape[1]) > 0
    top_BxU = top_tubes(score_BxU, eligible_BxU, motion.top_k)
    weight_BxN = token_weights(score_BxU, masked_BxN, eligible_BxN, grid, motion)
    plain_BxN = masked_BxN / jnp.maximum(masked_BxN.sum(-1, keepdims=True), 1)

    def at_targets(x_BxN: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x_BxN, mask.target_BxM, axis=1)

    return TargetWeights(at_targets(weight_BxN), at_targets(eligible_BxN), at_targets(plain_BxN)), top_BxU


def targets_of(
    encoder: Params, patches_BxNxP: jax.Array, config: PretrainConfig, layout: Layout, other: ModelConfig | None = None
) -> jax.Array:
    """Features of all tokens, layer-normed without affine: [B,N,D] float32. D holds the levels of V-JEPA 2.1.

    The encoder is of the architecture of the config, or of an `other` one.
    """
    model = other or config.model
    tokens = backbone_of(model).encode(encoder, patches_BxNxP, grid=config.grid, levels=True, layout=layout).tokens
    return normalise_levels(tokens, model.v21.outputs)


def normalise_levels(x_BxNxD: jax.Array, levels: int) -> jax.Array:
    """Layer norm without affine of each of so many levels, side by side in D, by itself; float32."""
    if levels == 1:
        return normalise(x_BxNxD, TARGET_NORM_EPS)
    x_BxNxLxC = x_BxNxD.reshape(*x_BxNxD.shape[:-1], levels, -1)
    return normalise(x_BxNxLxC, TARGET_NORM_EPS).reshape(x_BxNxD.shape)


def pixels_of(prepared: Prepared, config: PretrainConfig) -> jax.Array:
    """What the pixel objective predicts of every token: [B,N,P] float32."""
    model = config.model
    return pixel_targets(prepared.video01_BxTxHxWx3, model.patch, model.tubelet, config.objective.norm_pixels)


class Forward(NamedTuple):
    """What a mask set makes of the online networks, float32: predictions, and what they are made from."""

    targets_BxMxD: jax.Array
    context_BxKxC: jax.Array
    visible_BxKxD: jax.Array | None  # predictions of the visible tokens, where they were asked for


def predict(
    params: Params, patches_BxNxP: jax.Array, mask: MaskSet, config: PretrainConfig, layout: Layout, visible: bool
) -> Forward:
    """Encodes the context alone, predicts the targets, and the visible tokens too if asked.

    The context is the encoder's training output. Under the pixel objective predictions are of pixels, [B,M,P].
    """
    grid: Grid = config.grid
    head = config.objective
    seen = gather_tokens(patches_BxNxP, mask.context_BxK)
    encoder, predictor = backbone_of(config.model), backbone_of(head.head_model(config.model)).predictor
    encoded = encoder.encode(params["encoder"], seen, mask.context_BxK, grid=grid, levels=True, layout=layout)
    inputs = params[head.head], encoded.tokens, mask.context_BxK, mask.target_BxM
    image = encoder.is_image(seen, grid)
    if not visible:
        alone = predictor.predict(*inputs, grid=grid, image=image, layout=layout)
        return Forward(alone.astype(jnp.float32), encoded.tokens, None)
    both = predictor.predict_all(*inputs, grid=grid, image=image, layout=layout)
    assert both.context is not None, "predict_all predicts visible tokens"
    return Forward(both.targets.astype(jnp.float32), encoded.tokens, both.context.astype(jnp.float32))


def predict_targets(
    params: Params, patches_BxNxP: jax.Array, mask: MaskSet, config: PretrainConfig, layout: Layout
) -> tuple[jax.Array, jax.Array]:
    """`predict` of the targets alone: (predictions [B,M,D] float32, context [B,K,C])."""
    return predict(params, patches_BxNxP, mask, config, layout, visible=False)[:2]


def loss_and_metrics(
    params: Params,
    target_encoder: Params | None,
    prepared: Prepared,
    config: PretrainConfig,
    layout: Layout,
    step: jax.Array | int = 0,
) -> tuple[jax.Array, Metrics]:
    """L = sum of weight x term over the table of terms (weights from config), per mask set, then the mean over sets.

    `target_encoder` is what the source of targets supplies; the pixel objective uses none. `step` is for terms that
    draw at random or change along the run.
    """
    step = jnp.asarray(step, jnp.int32)
    targets_BxNxD = training_targets(params, target_encoder, prepared, config, layout)
    sets = []
    visible = predicts_visible(config.loss, config.objective.predicts)
    for number, mask in enumerate(prepared.masks):
        predicted, context, seen = predict(params, prepared.patches_BxNxP, mask, config, layout, visible)
        record = record_of(prepared, number, predicted, context, targets_BxNxD, config, step, seen)
        sets.append(set_terms(record, config))
    metrics = {name: jnp.stack([metrics[name] for metrics in sets]).mean() for name in sets[0]}
    return metrics["loss/total"], metrics


def training_targets(
    params: Params, target_encoder: Params | None, prepared: Prepared, config: PretrainConfig, layout: Layout
) -> jax.Array:
    """What should be predicted of every token, [B,N,D] float32: features of the target encoder, or pixels.

    Without `objective.stop_gradient` they are the online encoder's, with their gradient.
    """
    if config.objective.pixels:
        return pixels_of(prepared, config)
    if not config.objective.stop_gradient:
        return targets_of(params["encoder"], prepared.patches_BxNxP, config, layout)
    assert target_encoder is not None, "features are predicted of a target encoder"
    encoder = jax.lax.stop_gradient(target_encoder)
    with jax.named_scope("targets"):
        features = targets_of(encoder, prepared.patches_BxNxP, config, layout, config.target_model)
    return jax.lax.stop_gradient(features)


def record_of(
    prepared: Prepared,
    number: int,
    predicted_BxMxD: jax.Array,
    context_BxKxC: jax.Array,
    targets_BxNxD: jax.Array,
    config: PretrainConfig,
    step: jax.Array,
    context_predicted_BxKxD: jax.Array | None = None,
) -> TermInputs:
    """What the terms look at, of mask set `number`."""
    mask, weights = prepared.masks[number], prepared.weights[number]
    by_motion = config.objective.weigh_motion or not config.objective.pixels
    return TermInputs(
        predicted_BxMxD=predicted_BxMxD,
        target_BxMxD=gather_tokens(targets_BxNxD, mask.target_BxM),
        all_targets_BxNxD=targets_BxNxD,
        context_BxKxC=context_BxKxC,
        context_predicted_BxKxD=context_predicted_BxKxD,
        mask=mask,
        grid=config.grid,
        weight_BxM=weights.motion_BxM if by_motion else weights.plain_BxM,
        plain_BxM=weights.plain_BxM,
        eligible_BxM=weights.eligible_BxM,
        real_BxN=prepared.real_BxN,
        key=jax.random.fold_in(step_key(config.seed, TERMS, step), number),
        step=step,
    )


def set_terms(inputs: TermInputs, config: PretrainConfig) -> Metrics:
    """The loss terms and gauges of one mask set. `loss/l1` is the mean absolute error of the same values."""
    total: jax.Array | float = 0.0
    metrics: Metrics = {}
    with jax.named_scope("losses"):
        for name, term, settings in active_terms(config.loss, config.objective.predicts):
            measured = term.measure(inputs, settings)
            total = total + settings.weight * term.share(settings, inputs.step) * measured.value
            metrics[f"loss/{name}"] = measured.value
            metrics |= {f"gauge/{gauge}": value for gauge, value in measured.gauges.items()}
        metrics["loss/l1"] = motion_loss(inputs.predicted_BxMxD, inputs.target_BxMxD, inputs.plain_BxM)
    metrics |= prediction_gauge(inputs.predicted_BxMxD, inputs.eligible_BxM, config)
    if not config.objective.pixels:
        metrics["gauge/target_std"] = spread(inputs.target_BxMxD, inputs.eligible_BxM).std_D.mean()
        if not config.objective.source.teacher:  # its features are no neighbours of the student's
            metrics["gauge/context_target_cosine"] = context_target_cosine(inputs.target_BxMxD, inputs.context_BxKxC)
    return {"loss/total": jnp.asarray(total)} | jax.lax.stop_gradient(metrics)


def prediction_gauge(predicted_BxMxD: jax.Array, eligible_BxM: jax.Array, config: PretrainConfig) -> Metrics:
    """The spread of predictions, near 0 where features collapse.

    That of pixels has a name of its own: near 0 it says that the mean is predicted, as at the start of every run.
    """
    name = "gauge/pixel_std" if config.objective.pixels else "gauge/prediction_std"
    return {name: spread(predicted_BxMxD, eligible_BxM).std_D.mean()}


def feature_gauges(target_BxMxC: jax.Array, context_BxKxC: jax.Array, eligible_BxM: jax.Array) -> Metrics:
    """Signs of collapse that cost next to nothing: feature spread, and cosine of mean context and target features."""
    return {
        "gauge/target_std": spread(target_BxMxC, eligible_BxM).std_D.mean(),
        "gauge/context_target_cosine": context_target_cosine(target_BxMxC, context_BxKxC),
    }


def context_target_cosine(target_BxMxC: jax.Array, context_BxKxC: jax.Array) -> jax.Array:
    """Cosine of the mean features of context and target, the mean over clips."""
    context_BxC = normalise(context_BxKxC, TARGET_NORM_EPS).mean(1)
    target_BxC = target_BxMxC.mean(1)
    scale_B = jnp.linalg.norm(context_BxC, axis=-1) * jnp.linalg.norm(target_BxC, axis=-1)
    return ((context_BxC * target_BxC).sum(-1) / jnp.maximum(scale_B, 1e-12)).mean()
