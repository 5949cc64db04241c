"""The linear head of dense prediction: one linear map from the tokens of a patch to numbers for its own pixels.

What it cannot read from a patch's tokens alone it cannot say, so that it judges the encoder rather than itself. Of
DINOv2's linear probes it differs by a layer norm in the place of a batch norm, and by several numbers a patch.

Letters: L layers, B clips, t token steps, h and w rows and columns of patches, D width, C cells along a patch's side,
H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.dense_head import OUTPUTS, check_scale, last_step, to_pixels
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.transformer import normalise


@dataclass(frozen=True)
class PatchHeadConfig:
    """A linear map of the concatenated layers."""

    width: int  # of the tokens
    size: tuple[int, int]  # rows and columns of the output, pixels
    layers: int = 1  # encoder layers that it reads
    cells: int = 1  # numbers along each side of a patch; between them the output is interpolated
    output: str = "logits"  # logits (segmentation), depth
    scale: float = 1.0  # depth: a typical depth of the training data, in its unit; outputs are multiples of it
    normed: bool = True  # tokens have zero mean and unit variance first, without parameters
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        one_of("patch_linear.output", self.output, OUTPUTS)
        for name in ("width", "layers", "cells"):
            at_least(f"patch_linear.{name}", getattr(self, name), 1)
        for value in self.size:
            at_least("patch_linear.size", value, 1)
        check_scale("patch_linear.scale", self.scale)


def init_patch_head(config: PatchHeadConfig, key: jax.Array) -> Params:
    """Kernel [L*D, C*C] of standard deviation 0.02, bias [C*C] of zeros."""
    shape = (config.layers * config.width, config.cells**2)
    return {"kernel": 0.02 * jax.random.normal(key, shape), "bias": jnp.zeros(shape[1])}


def patch_head(config: PatchHeadConfig, params: Params, tokens_LxBxtxhxwxD: jax.Array) -> jax.Array:
    """Logits or depths [B,H,W] float32 of the clips' last moment: of the last token step of each layer.

    Raises ValueError for tokens of another rank, width or number of layers.
    """
    last_LxBxhxwxD = last_step(tokens_LxBxtxhxwxD, config.layers, config.width, "linear head of patches")
    last_LxBxhxwxD = last_LxBxhxwxD.astype(jnp.float32)
    if config.normed:
        last_LxBxhxwxD = normalise(last_LxBxhxwxD, config.norm_eps)
    joined = jnp.concatenate(list(last_LxBxhxwxD), axis=-1)
    out = laid_side_by_side(joined @ params["kernel"] + params["bias"], config.cells)
    return to_pixels(out, config.size, config.output, config.scale)


def laid_side_by_side(values_BxhxwxCC: jax.Array, cells: int) -> jax.Array:
    """[B, h*C, w*C]: the cells of each patch, row by row, at their places in the picture."""
    batch, rows, columns, _ = values_BxhxwxCC.shape
    split = values_BxhxwxCC.reshape(batch, rows, columns, cells, cells)
    return split.swapaxes(2, 3).reshape(batch, rows * cells, columns * cells)
