"""The attentive probe of frozen evaluation: tokens in, logits or scores out (V-JEPA 2, arXiv 2506.09985, section 4).

Self-attention blocks without positions, then learned queries that attend to the tokens once, then a linear layer.
Everything is a pure function of the parameters, so a sweep may `vmap` over parameters of many probes.

Letters: B batch, N tokens, C width, Q queries, H heads, D head dimension, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least
from surgmotion_jax.models.attention import attend
from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.linear import WEIGHT_INIT, Linear, named
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.transformer import (
    LayerNorm,
    Mlp,
    Trunk,
    rescale_residual_branches,
)


@dataclass(frozen=True)
class ProbeConfig:
    """An attentive probe. facebookresearch's classifiers have depth 4 and 16 heads at any width."""

    width: int  # of the tokens
    outputs: int  # classes, or numbers to regress
    depth: int = 4  # attention layers in all: depth - 1 blocks of self-attention, then the queries
    heads: int = 16
    mlp: int = 0  # hidden units of its MLPs; 0: 4 x width
    queries: int = 1  # learned queries, each with outputs of its own
    norm_eps: float = 1e-5  # of its layer norms (facebookresearch 1e-5; Hugging Face 1e-6)
    complete_block: bool = True  # the queries have norms, a residual and an MLP; False: attention alone
    attention: str = "xla"  # xla, cudnn (NVIDIA GPUs), splash, fused (TPUs), for the blocks
    remat: str = "none"  # none, full, dots
    dtype: str = "float32"  # computation; parameters, norms and softmax stay float32

    def __post_init__(self) -> None:
        for name in ("width", "outputs", "depth", "heads", "queries"):
            at_least(f"probe.{name}", getattr(self, name), 1)
        at_least("probe.mlp", self.mlp, 0)
        if not self.norm_eps > 0:
            raise ValueError(f"probe.norm_eps is {self.norm_eps}; it must be positive (1e-5, or Hugging Face's 1e-6).")
        _ = self.trunk  # refuses heads that do not divide the width

    @property
    def trunk(self) -> TransformerConfig:
        """The blocks of self-attention; for a depth of 1, what their sizes would be."""
        return TransformerConfig(
            width=self.width,
            depth=max(self.depth - 1, 1),
            heads=self.heads,
            mlp=self.mlp or 4 * self.width,
            norm_eps=self.norm_eps,
            positions="none",
            attention=self.attention,
            remat=self.remat,
            dtype=self.dtype,
        )


class Probed(NamedTuple):
    """Outputs [B,K] float32 and the pooled features they are a linear function of, [B,C]; [B,Q,...] of Q queries."""

    outputs: jax.Array
    pooled: jax.Array


class CrossAttention(nn.Module):
    """Queries attend to normed tokens. The queries are not normed and nothing is projected afterwards."""

    config: ProbeConfig
    layout: Layout

    @nn.compact
    def __call__(self, query_BxQxC: jax.Array, x_BxNxC: jax.Array, valid_BxN: jax.Array | None) -> jax.Array:
        c, trunk = self.config, self.config.trunk
        tokens = LayerNorm(c.norm_eps, name="norm1")(x_BxNxC) if c.complete_block else x_BxNxC
        q = Linear((c.heads, trunk.head_dim), ("embed", "heads", None), c.dtype, name="q")(query_BxQxC)
        kv = Linear((2, c.heads, trunk.head_dim), ("embed", None, "heads", None), c.dtype, name="kv")(tokens)
        # A few queries against all tokens: the fused kernels, made for square attention, gain nothing here.
        read = attend(q, kv[:, :, 0], kv[:, :, 1], implementation="xla", layout=self.layout, valid_BxN=valid_BxN)
        read_BxQxC = read.reshape(query_BxQxC.shape)
        if not c.complete_block:
            return read_BxQxC
        x = query_BxQxC + read_BxQxC
        return x + Mlp(trunk, self.layout, name="mlp")(LayerNorm(c.norm_eps, name="norm2")(x))


class Probe(nn.Module):
    """See the module."""

    config: ProbeConfig
    layout: Layout

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array, valid_BxN: jax.Array | None) -> Probed:
        c = self.config
        if c.depth > 1:
            x_BxNxC, _ = Trunk(c.trunk, self.layout, name="trunk")(x_BxNxC, None, valid_BxN=valid_BxN)
        query = self.param("query", named(WEIGHT_INIT, (None, "embed")), (c.queries, c.width), jnp.float32)
        query_BxQxC = jnp.broadcast_to(query.astype(x_BxNxC.dtype), (x_BxNxC.shape[0], c.queries, c.width))
        pooled = CrossAttention(c, self.layout, name="cross")(query_BxQxC, x_BxNxC, valid_BxN)
        outputs = Linear((c.outputs,), ("embed", None), c.dtype, name="linear")(pooled)
        if c.queries == 1:
            pooled, outputs = pooled[:, 0], outputs[:, 0]
        return Probed(outputs.astype(jnp.float32), pooled.astype(jnp.float32))


def probe_pooled(
    config: ProbeConfig,
    params: Params,
    tokens_BxNxC: jax.Array,
    valid_BxN: jax.Array | None = None,
    *,
    layout: Layout = SINGLE_DEVICE,
) -> Probed:
    """As `probe`, with the pooled features beside the outputs."""
    if tokens_BxNxC.shape[-1] != config.width:
        raise ValueError(
            f"tokens are {tokens_BxNxC.shape[-1]} wide, but probe.width is {config.width}; a probe fits one encoder."
        )
    tokens = tokens_BxNxC.astype(config.dtype)
    return Probe(config, layout).apply({"params": params}, tokens, valid_BxN)  # type: ignore[return-value]


def probe(
    config: ProbeConfig,
    params: Params,
    tokens_BxNxC: jax.Array,
    valid_BxN: jax.Array | None = None,
    *,
    layout: Layout = SINGLE_DEVICE,
) -> jax.Array:
    """Logits or scores [B,K] float32 of encoder tokens; [B,Q,K] if the probe has several queries.

    Tokens that are not `valid` (padding) have no influence. Raises ValueError if the tokens have another width, or
    `valid` is given and `config.attention` cannot mask.
    """
    return probe_pooled(config, params, tokens_BxNxC, valid_BxN, layout=layout).outputs


def init_probe(config: ProbeConfig, key: jax.Array) -> Params:
    """Parameters of a fresh probe as plain nested dicts of float32 arrays.

    Normal weights of standard deviation 0.02; the residual outputs of block l are divided by sqrt(2 l), and the last
    layer of the queries' MLP like that of the last block (of block 1 if there is none).
    """
    params: Params = nn.meta.unbox(_boxed_probe(config, key))
    if config.depth > 1:
        params = {**params, "trunk": {"blocks": rescale_residual_branches(params["trunk"]["blocks"])}}
    if not config.complete_block:
        return params
    mlp = params["cross"]["mlp"]
    kernel = mlp["fc2"]["kernel"] / jnp.sqrt(2.0 * max(config.depth - 1, 1))
    return {**params, "cross": {**params["cross"], "mlp": {**mlp, "fc2": {**mlp["fc2"], "kernel": kernel}}}}


def _boxed_probe(config: ProbeConfig, key: jax.Array) -> Params:
    return Probe(config, SINGLE_DEVICE).init(key, jnp.zeros((1, 1, config.width)), None)["params"]
