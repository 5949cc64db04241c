"""The `images` section of a config: single pictures beside the clips of a step (V-JEPA 2.1, arXiv 2603.14482)."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.checks import at_least
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.config.objective import ObjectiveConfig
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.sample.block_masks import BlockSet
from surgmotion_jax.pretrain.sample.mask_kind import columns_of

AS_CLIPS = -1.0


@dataclass(frozen=True)
class ImagesConfig:
    """Images of a step, spread over all devices as its clips are. Targets, loss and parameters are the clips' own."""

    batch: int = 0  # images per step, over all devices and micro-batches; 0: none, and nothing else here is read
    share: float = 0.5  # of the gradient that comes from images; the rest comes from clips
    path: str = ""  # folder of folders of images, or videos; empty: single frames of the videos that clips are cut from
    canvas: tuple[int, int] = (256, 256)  # height, width of the window cut on the host, in pixels
    crop: int = 0  # side of the square the encoder sees, in pixels; 0: augment.crop
    blocks: int = 10  # blocks in the union that their one mask set hides
    spatial: tuple[float, float] = (0.15, 0.15)  # share of the image that one block covers
    aspect: tuple[float, float] = (0.75, 1.5)  # height / width of a block
    target: float = 0.65  # share of tokens that are targets: the static count
    context: float = AS_CLIPS  # weight of the context loss on images; -1: that on clips

    def __post_init__(self) -> None:
        at_least("images.batch", self.batch, 0)
        at_least("images.crop", self.crop, 0)
        at_least("images.blocks", self.blocks, 1)
        for name in ("spatial", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"images.{name} is {(low, high)}; it must satisfy 0 < low <= high.")
        if not 0 < self.share < 1:
            raise ValueError(
                f"images.share is {self.share:g}; images and clips both need a share of the gradient, strictly between "
                "0 and 1. For clips alone set --config.images.batch=0."
            )
        if self.context < 0 and self.context != AS_CLIPS:
            raise ValueError(
                f"images.context is {self.context:g}; give a weight of at least 0, or -1 for that on clips."
            )

    @property
    def mask(self) -> BlockSet:
        """Their mask set."""
        return BlockSet(self.blocks, self.spatial, (1.0, 1.0), self.aspect, self.target)


def check_images(
    images: ImagesConfig, model: ModelConfig, objective: ObjectiveConfig, optim: OptimConfig, crop: int
) -> None:
    """Raises ValueError where images cannot be trained on beside the clips; `crop` is that of the clips."""
    if not images.batch:
        return
    if not model.v21.modality:
        raise ValueError(
            f"images.batch is {images.batch}, but the model has no tokenizer of images (model.v21.modality is False); "
            "set --config.model.v21.modality=True or --config.images.batch=0."
        )
    if not objective.target_model(model).v21.modality:
        raise ValueError(
            f"images.batch is {images.batch}, but the frozen teacher {objective.teacher} has no tokenizer of images; "
            "set --config.images.batch=0, or take a teacher of V-JEPA 2.1."
        )
    if objective.pixels:
        raise ValueError(
            f"images.batch is {images.batch}, but objective.kind is 'pixel', and its decoder makes pixels of clips "
            "alone; set --config.images.batch=0."
        )
    if images.batch % optim.accumulate:
        raise ValueError(
            f"images.batch {images.batch} is not divisible by optim.accumulate {optim.accumulate}; "
            "choose a number of micro-batches that divides both batches."
        )
    side = images.crop or crop
    if side % model.patch or side > min(images.canvas):
        raise ValueError(
            f"images.crop {side} must be a multiple of model.patch {model.patch} and at most images.canvas "
            f"{images.canvas}; change --config.images.crop or --config.images.canvas."
        )
    columns_of("images.target", images.target, model.grid(model.tubelet, side, side))
