"""Attention implementations, chosen by name; an unavailable one is an error, never a silent fallback.

Letters: B batch, N tokens, H heads, D head dimension. No mask is needed: token counts are static.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import one_of
from surgmotion_jax.models.layout import Layout

HEADS = ("batch", None, "act_heads", None)
SPLASH_BLOCK = 128


def attend(
    q_BxNxHxD: jax.Array, k_BxNxHxD: jax.Array, v_BxNxHxD: jax.Array, *, implementation: str, layout: Layout
) -> jax.Array:
    """Full bidirectional softmax attention at scale D^-1/2, softmax in float32. Returns [B,N,H,D]."""
    return IMPLEMENTATIONS[implementation](q_BxNxHxD, k_BxNxHxD, v_BxNxHxD, layout)


def check_attention(implementation: str, platform: str, dtype: str) -> None:
    """Raises ValueError if `implementation` cannot run on `platform` ('cpu', 'gpu', 'tpu') in `dtype`."""
    one_of("model.attention", implementation, tuple(IMPLEMENTATIONS))
    needs = {"cudnn": "gpu", "splash": "tpu"}.get(implementation)
    if needs and platform != needs:
        raise ValueError(
            f"model.attention is {implementation!r}, which needs a {needs.upper()}, but the devices are "
            f"{platform!r}; set --config.model.attention=xla."
        )
    if implementation == "cudnn" and dtype != "bfloat16":
        raise ValueError(
            f"model.attention='cudnn' computes in bfloat16 only, but model.dtype is {dtype!r}; set "
            "--config.model.dtype=bfloat16 or --config.model.attention=xla."
        )


def _xla(q: jax.Array, k: jax.Array, v: jax.Array, layout: Layout) -> jax.Array:
    del layout
    logits = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, layout: Layout) -> jax.Array:
    def kernel(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")

    return layout.per_shard(kernel, (HEADS, HEADS, HEADS), HEADS)(q, k, v)


def _splash(q: jax.Array, k: jax.Array, v: jax.Array, layout: Layout) -> jax.Array:
    return layout.per_shard(splash_kernel, (HEADS, HEADS, HEADS), HEADS)(q, k, v)


def splash_kernel(
    q_BxNxHxD: jax.Array, k_BxNxHxD: jax.Array, v_BxNxHxD: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """TPU splash attention on one device's shard. Lengths are padded to whole blocks; segment ids hide the padding."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    _, length, heads, head_dim = q_BxNxHxD.shape
    padded = -(-length // SPLASH_BLOCK) * SPLASH_BLOCK

    def to_kernel(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, padded - length), (0, 0), (0, 0))).swapaxes(1, 2)

    segment = (jnp.arange(padded) >= length).astype(jnp.int32)
    kernel = splash.make_splash_mha_single_device(
        masks.MultiHeadMask([masks.FullMask((padded, padded))] * heads), interpret=interpret
    )
    run = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=splash.SegmentIds(segment, segment)))
    out_BxHxNxD = run(to_kernel(q_BxNxHxD * head_dim**-0.5), to_kernel(k_BxNxHxD), to_kernel(v_BxNxHxD))
    return out_BxHxNxD.swapaxes(1, 2)[:, :length].astype(q_BxNxHxD.dtype)


IMPLEMENTATIONS: dict[str, Callable[[jax.Array, jax.Array, jax.Array, Layout], jax.Array]] = {
    "xla": _xla,
    "cudnn": _cudnn,
    "splash": _splash,
}
