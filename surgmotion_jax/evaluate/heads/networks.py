"""Heads over frozen features as pairs of pure functions, so that one sweep trains any of them.

A head's `init(key)` gives parameters, `apply(params, features, valid)` its outputs. Features are what the encoder
gave, pooled or not: tokens [B,N,D] (attentive, linear), one feature a moment [B,N,D] (temporal), layers of whole
token grids [L,B,t,h,w,D] (dense, patch_linear). `valid` marks real tokens or moments, or is None where all are.

Letters: B rows of a batch, N tokens or moments, D width, K outputs, L layers, t, h, w token grid, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.dense_head import DenseHeadConfig, dense_head, init_dense_head
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.patch_head import PatchHeadConfig, init_patch_head, patch_head
from surgmotion_jax.models.probe import ProbeConfig, init_probe, probe
from surgmotion_jax.models.temporal import TemporalConfig, init_temporal, temporal


@dataclass(frozen=True)
class LinearConfig:
    """A linear map of the mean token."""

    width: int  # of the tokens
    outputs: int  # classes, or numbers to regress

    def __post_init__(self) -> None:
        for name in ("width", "outputs"):
            at_least(f"linear.{name}", getattr(self, name), 1)


HeadConfig = ProbeConfig | LinearConfig | DenseHeadConfig | PatchHeadConfig | TemporalConfig
PixelConfig = TypeVar("PixelConfig", DenseHeadConfig, PatchHeadConfig)


@dataclass(frozen=True)
class Head:
    """A head as functions; see the module."""

    name: str  # one of HEADS
    config: HeadConfig
    init: Callable[[jax.Array], Params]  # key -> parameters
    apply: Callable[[Params, jax.Array, jax.Array | None], jax.Array]  # -> outputs, leading axis B
    batch_axis: int = 0  # of the features


def init_linear(config: LinearConfig, key: jax.Array) -> Params:
    """Kernel [D,K] of standard deviation 0.02, bias [K] of zeros."""
    return {
        "kernel": 0.02 * jax.random.normal(key, (config.width, config.outputs)),
        "bias": jnp.zeros(config.outputs),
    }


def linear(config: LinearConfig, params: Params, tokens_BxNxD: jax.Array, valid_BxN: jax.Array | None) -> jax.Array:
    """Logits or scores [B,K] of the mean valid token. Raises ValueError for tokens of another width."""
    if tokens_BxNxD.ndim != 3 or tokens_BxNxD.shape[-1] != config.width:
        raise ValueError(
            f"tokens have shape {tokens_BxNxD.shape}; a linear probe takes [clips, tokens, {config.width}] of the "
            "encoder that it was made for (one pooled feature is one token)."
        )
    return pooled(tokens_BxNxD, valid_BxN) @ params["kernel"] + params["bias"]


def pooled(tokens_BxNxD: jax.Array, valid_BxN: jax.Array | None = None) -> jax.Array:
    """The mean of the valid tokens, [B,D], in float32 or wider; zeros for a row without any."""
    tokens = tokens_BxNxD.astype(jnp.promote_types(tokens_BxNxD.dtype, jnp.float32))
    if valid_BxN is None:
        return tokens.mean(1)
    kept = jnp.where(valid_BxN[..., None], tokens, 0)
    return kept.sum(1) / jnp.maximum(valid_BxN.sum(1), 1).astype(tokens.dtype)[:, None]


def dense(
    read: Callable[[PixelConfig, Params, jax.Array], jax.Array],
    config: PixelConfig,
    params: Params,
    tokens: jax.Array,
    valid: jax.Array | None,
) -> jax.Array:
    """`read` as a head's `apply`. Raises ValueError where `valid` is given: it reads every patch."""
    if valid is not None:
        raise ValueError(
            "a dense head reads every patch of the last moment, which is always real; pass valid=None, and mark "
            "pixels without truth in the mask of the targets."
        )
    return read(config, params, tokens)


# name: (config class, init, apply, batch axis of the features)
HEADS: dict[str, tuple[type, Callable[..., Params], Callable[..., jax.Array], int]] = {
    "attentive": (ProbeConfig, init_probe, probe, 0),
    "linear": (LinearConfig, init_linear, linear, 0),
    "dense": (DenseHeadConfig, init_dense_head, partial(dense, dense_head), 1),
    "patch_linear": (PatchHeadConfig, init_patch_head, partial(dense, patch_head), 1),
    "temporal": (TemporalConfig, init_temporal, temporal, 0),
}

PIXEL_HEADS = ("dense", "patch_linear")
"""Heads with an output for each pixel; they read whole grids of tokens of several layers."""


def make_head(name: str, config: HeadConfig, layout: Layout = SINGLE_DEVICE) -> Head:
    """The head of a name; `layout` is that of the device that one head is on.

    Raises ValueError for a name that there is not, or the config of another head.
    """
    one_of("head", name, tuple(HEADS))
    kind, init, apply, batch_axis = HEADS[name]
    if not isinstance(config, kind):
        raise ValueError(f"head {name!r} was given a {type(config).__name__}; it takes a {kind.__name__}.")
    apply = partial(apply, config, layout=layout) if isinstance(config, ProbeConfig) else partial(apply, config)
    return Head(name, config, partial(init, config), apply, batch_axis)
