"""Heads of dense prediction: tokens of several encoder layers in, one number a pixel out.

Each layer is normed and projected, the layers are fused by a linear map, and blocks of up-sampling, 3 x 3
convolution, group norm and GELU lead back to pixels. The output is a logit (segmentation) or a positive depth.

Letters: L layers, B clips, t token steps, h and w rows and columns of patches, D width, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.config import DTYPES
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.transformer import LayerNorm, Linear, named, normalise

OUTPUTS = ("logits", "depth")


@dataclass(frozen=True)
class DenseHeadConfig:
    """A dense head. Each entry of `channels` doubles rows and columns; four make 256 pixels of 16 patches."""

    width: int  # of the tokens
    size: tuple[int, int]  # rows and columns of the output, pixels
    layers: int = 1  # encoder layers that it reads
    output: str = "logits"  # logits (segmentation), depth
    scale: float = 1.0  # depth: a typical depth of the training data, in its unit; outputs are multiples of it
    projection: int = 128  # channels that each layer is projected to
    channels: tuple[int, ...] = (256, 128, 64, 32)  # after each doubling
    groups: int = 8  # of each group norm
    norm_eps: float = 1e-5  # of all norms
    dtype: str = "float32"  # computation; parameters, norms and output stay float32

    def __post_init__(self) -> None:
        one_of("dense.output", self.output, OUTPUTS)
        one_of("dense.dtype", self.dtype, DTYPES)
        for name in ("width", "layers", "projection", "groups"):
            at_least(f"dense.{name}", getattr(self, name), 1)
        for name, values in (("size", self.size), ("channels", self.channels)):
            for value in values:
                at_least(f"dense.{name}", value, 1)
        check_scale("dense.scale", self.scale)
        uneven = [c for c in self.channels if c % self.groups]
        if uneven:
            raise ValueError(
                f"dense.channels {self.channels}: {uneven[0]} is not divisible by dense.groups {self.groups}; choose "
                "a number of groups that divides every entry."
            )


class Convolution(nn.Module):
    """3 x 3, zeros around the border."""

    channels: int
    dtype: str

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        # He's deviation for the 9 C inputs: at the 0.02 of linear layers, four blocks would lose the signal's detail.
        init = named(nn.initializers.he_normal(), (None, None, "embed", None))
        kernel = self.param("kernel", init, (3, 3, x_BxHxWxC.shape[-1], self.channels), jnp.float32)
        return convolved(x_BxHxWxC.astype(self.dtype), kernel.astype(self.dtype))


class GroupNorm(nn.Module):
    """Zero mean and unit variance over pixels and the channels of a group, in float32; then an affine map."""

    groups: int
    eps: float

    @nn.compact
    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        batch, rows, columns, channels = x_BxHxWxC.shape
        scale = self.param("scale", named(nn.initializers.ones, ("norm",)), (channels,), jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, ("norm",)), (channels,), jnp.float32)
        split = x_BxHxWxC.reshape(batch, rows * columns, self.groups, -1).swapaxes(1, 2)
        normed = normalise(split.reshape(batch, self.groups, -1), self.eps).reshape(split.shape)
        return normed.swapaxes(1, 2).reshape(x_BxHxWxC.shape) * scale + bias


class DenseHead(nn.Module):
    """See the module."""

    config: DenseHeadConfig

    @nn.compact
    def __call__(self, x_LxBxhxwxD: jax.Array) -> jax.Array:
        c = self.config
        projected = []
        for layer in range(c.layers):
            normed = LayerNorm(c.norm_eps, name=f"norm{layer}")(x_LxBxhxwxD[layer])
            projected.append(Linear((c.projection,), ("embed", None), c.dtype, name=f"project{layer}")(normed))
        fused = Linear((c.projection,), ("embed", None), c.dtype, name="fuse")(jnp.concatenate(projected, axis=-1))
        x = jax.nn.gelu(GroupNorm(math.gcd(c.groups, c.projection), c.norm_eps, name="fuse_norm")(fused))
        for block, channels in enumerate(c.channels):
            x = Convolution(channels, c.dtype, name=f"conv{block}")(doubled(x))
            x = jax.nn.gelu(GroupNorm(c.groups, c.norm_eps, name=f"conv_norm{block}")(x))
        out_BxHxW = Linear((1,), ("embed", None), c.dtype, name="linear")(x)[..., 0].astype(jnp.float32)
        return to_pixels(out_BxHxW, c.size, c.output, c.scale)


def dense_head(config: DenseHeadConfig, params: Params, tokens_LxBxtxhxwxD: jax.Array) -> jax.Array:
    """Logits or depths [B,H,W] float32 of the clips' last moment: of the last token step of each layer.

    Earlier steps have entered it through the encoder's attention. Raises ValueError for tokens of another rank,
    width or number of layers.
    """
    last_LxBxhxwxD = last_step(tokens_LxBxtxhxwxD, config.layers, config.width, "dense head")
    return DenseHead(config).apply({"params": params}, last_LxBxhxwxD)  # type: ignore[return-value]


def init_dense_head(config: DenseHeadConfig, key: jax.Array) -> Params:
    """Parameters of a fresh head as plain nested dicts of float32 arrays."""
    tokens = jnp.zeros((config.layers, 1, 1, 1, config.width))
    return nn.meta.unbox(DenseHead(config).init(key, tokens)["params"])


def check_scale(name: str, scale: float) -> None:
    """Raises ValueError for a typical depth that is none."""
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{name} is {scale}; give a typical depth of the training data, above 0.")


def last_step(tokens_LxBxtxhxwxD: jax.Array, layers: int, width: int, head: str) -> jax.Array:
    """[L,B,h,w,D]: the last token step. Raises ValueError for tokens that the head of that name was not made for."""
    shape = tokens_LxBxtxhxwxD.shape
    if len(shape) != 6 or (shape[0], shape[-1]) != (layers, width):
        raise ValueError(
            f"tokens have shape {shape}; this {head} takes [{layers} layers, clips, steps, rows, columns, {width}]: as "
            "many layers, as wide, as it was made for."
        )
    return tokens_LxBxtxhxwxD[:, :, -1]


def to_pixels(out_BxHxW: jax.Array, size: tuple[int, int], output: str, scale: float) -> jax.Array:
    """Logits, or depths as multiples of `scale`, interpolated to `size`."""
    if out_BxHxW.shape[1:] != size:
        out_BxHxW = jax.image.resize(out_BxHxW, (len(out_BxHxW), *size), "bilinear")
    return out_BxHxW if output == "logits" else scale * jax.nn.softplus(out_BxHxW)


def doubled(x_BxHxWxC: jax.Array) -> jax.Array:
    """Every pixel twice along rows and columns: copies by broadcasting, without a gather."""
    batch, rows, columns, channels = x_BxHxWxC.shape
    wide = jnp.broadcast_to(x_BxHxWxC[:, :, None, :, None], (batch, rows, 2, columns, 2, channels))
    return wide.reshape(batch, 2 * rows, 2 * columns, channels)


def convolved(x_BxHxWxC: jax.Array, kernel_3x3xCxK: jax.Array) -> jax.Array:
    """3 x 3 convolution."""
    return jax.lax.conv_general_dilated(
        x_BxHxWxC, kernel_3x3xCxK, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
