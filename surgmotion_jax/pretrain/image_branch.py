"""The part of a step that works on images: the run's config as images see it, and the loss of both parts together.

An image is a clip of one frame whose tokens are patches of that frame, so everything that works on clips works on
images under the config that `of_images` makes: preparation, targets, prediction, terms of the loss, cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from surgmotion_jax.data.config import DataConfig, SourceConfig
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.pretrain.config import ImagesConfig, PretrainConfig
from surgmotion_jax.pretrain.config.images import AS_CLIPS
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.losses.term import TermConfig
from surgmotion_jax.pretrain.objective import Metrics, Prepared, loss_and_metrics
from surgmotion_jax.pretrain.sample.block_masks import BlockMasks
from surgmotion_jax.pretrain.sample.masks import MaskProgram, mask_programs
from surgmotion_jax.pretrain.sample.saliency_kind import SaliencyConfig

OTHER_SEED = 1_000_003  # added to the run's, so that image i and clip i are cut and masked independently


def of_images(config: PretrainConfig) -> PretrainConfig:
    """The config under which the images of a run are clips of one frame. Only for configs that have images.

    Of the loss remain the prediction error without motion, and the context loss.
    """
    images = config.images
    return dataclasses.replace(
        config,
        seed=config.seed + OTHER_SEED,
        model=dataclasses.replace(config.model, tubelet=1),
        data=data_of_images(config.data, images),
        augment=dataclasses.replace(config.augment, crop=images.crop or config.augment.crop),
        mask=BlockMasks(sets={"image": images.mask}),
        saliency=SaliencyConfig(kind="none", fov="none"),
        loss=_loss_of_images(config.loss, images.context),
        optim=dataclasses.replace(config.optim, batch=images.batch),
        images=ImagesConfig(),
    )


def data_of_images(data: DataConfig, images: ImagesConfig) -> DataConfig:
    """Where images come from: a place of their own, all of it to train on, or the training part of the videos."""
    single = dataclasses.replace(data, frames=1, canvas=images.canvas, short="pad")
    if not images.path:
        return single
    return dataclasses.replace(single, sources={"images": SourceConfig(images.path)}, fps=1.0, holdout=0.0)


def _loss_of_images(loss: Mapping[str, TermConfig], context: float) -> Mapping[str, TermConfig]:
    def one(name: str, settings: TermConfig) -> TermConfig:
        if not TERMS[name].visible:
            return settings.off()
        return settings if context == AS_CLIPS else dataclasses.replace(settings, weight=context)

    return {name: one(name, settings) for name, settings in loss.items()}


def image_program(config: PretrainConfig) -> MaskProgram:
    """The one mask program of images, given `of_images` of a config."""
    (program,) = mask_programs(config.mask, config.grid)
    return program


def mixed_loss(
    params: Params,
    target_encoder: Params | None,
    clips: Prepared,
    images: Prepared,
    config: PretrainConfig,
    layout: Layout,
    step: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """(1 - share) x the loss of clips + share x that of images, each a mean over its own batch.

    Metrics are those of clips; `loss/total` is the whole, `loss/clips` and `loss/images` are its parts, and terms of
    images are named `image/...`.
    """
    share = config.images.share
    of_clips, metrics = loss_and_metrics(params, target_encoder, clips, config, layout, step)
    with jax.named_scope("images"):
        loss, found = loss_and_metrics(params, target_encoder, images, of_images(config), layout, step)
    total = (1 - share) * of_clips + share * loss
    terms = {name.replace("loss/", "image/"): x for name, x in found.items() if name.startswith("loss/")}
    del terms["image/total"]
    parts = {"loss/clips": of_clips, "loss/images": loss}
    return total, metrics | jax.lax.stop_gradient(parts | terms | {"loss/total": total})
