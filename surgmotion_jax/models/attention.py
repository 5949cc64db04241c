"""Attention implementations, chosen by name; an unavailable one is an error, never a silent fallback.

Letters: B batch, Q queries, N tokens, H heads, D head dimension. Encoder and predictor need no mask: their token
counts are static. Probes may see padded tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from surgmotion_jax.checks import one_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.derivatives import softmax_attention
from surgmotion_jax.models.layout import Layout

HEADS = ("batch", None, "act_heads", None)
SPLASH_BLOCK = 128
AUTO = "auto"

# Name of what a rematerialisation policy can keep so that attention itself is not computed again backward. Splash
# names its log-sum-exp too; cuDNN names nothing of its own, and runs again whatever is kept.
ATTENTION_OUT = "attention_out"


def attend(
    q_BxQxHxD: jax.Array,
    k_BxNxHxD: jax.Array,
    v_BxNxHxD: jax.Array,
    *,
    implementation: str,
    layout: Layout,
    valid_BxN: jax.Array | None = None,
) -> jax.Array:
    """Full bidirectional softmax attention at scale D^-1/2, softmax in float32. Returns [B,Q,H,D].

    Tokens that are not `valid` are not attended to; if none of a row is, the row attends to all evenly.
    Raises ValueError if `valid` is given to an implementation that cannot mask, and for 'auto', which names none.
    """
    if implementation == AUTO:
        raise ValueError("attention 'auto' must be resolved for a platform first: see resolve_attention.")
    if valid_BxN is None:
        return IMPLEMENTATIONS[implementation](q_BxQxHxD, k_BxNxHxD, v_BxNxHxD, layout)
    if implementation != "xla":
        raise ValueError(
            f"attention {implementation!r} cannot leave out invalid tokens; use 'xla', or pass valid=None."
        )
    return _xla(q_BxQxHxD, k_BxNxHxD, v_BxNxHxD, layout, valid_BxN)


def resolve_attention(model: ModelConfig, platform: str) -> ModelConfig:
    """`model` with attention 'auto' replaced by what `platform` ('cpu', 'gpu', 'tpu') runs best.

    Splash on a TPU, cuDNN on a GPU in bfloat16 (it computes in no wider type), XLA's own everywhere else.
    """
    if model.attention != AUTO:
        return model
    gpu = "cudnn" if model.dtype == "bfloat16" else "xla"
    return dataclasses.replace(model, attention={"tpu": "splash", "gpu": gpu}.get(platform, "xla"))


def check_attention(implementation: str, platform: str, dtype: str) -> None:
    """Raises ValueError if `implementation` cannot run on `platform` ('cpu', 'gpu', 'tpu') in `dtype`."""
    one_of("model.attention", implementation, (*IMPLEMENTATIONS, AUTO))
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


def _xla(q: jax.Array, k: jax.Array, v: jax.Array, layout: Layout, valid: jax.Array | None = None) -> jax.Array:
    del layout
    q = q * q.shape[-1] ** -0.5
    if valid is None:
        return checkpoint_name(softmax_attention(q, k, v), ATTENTION_OUT)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    logits = jnp.where(valid[:, None, None, :], logits, jnp.finfo(logits.dtype).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return checkpoint_name(jnp.einsum("bhqk,bkhd->bqhd", weights, v), ATTENTION_OUT)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, layout: Layout) -> jax.Array:
    def kernel(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")

    return checkpoint_name(layout.per_shard(kernel, (HEADS, HEADS, HEADS), HEADS)(q, k, v), ATTENTION_OUT)


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
        masks.MultiHeadMask([masks.FullMask((padded, padded))] * heads),
        interpret=interpret,
        residual_checkpoint_name=ATTENTION_OUT,
    )
    run = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=splash.SegmentIds(segment, segment)))
    out_BxHxNxD = run(to_kernel(q_BxNxHxD * head_dim**-0.5), to_kernel(k_BxNxHxD), to_kernel(v_BxNxHxD))
    return out_BxHxNxD.swapaxes(1, 2)[:, :length].astype(q_BxNxHxD.dtype)


IMPLEMENTATIONS: dict[str, Callable[[jax.Array, jax.Array, jax.Array, Layout], jax.Array]] = {
    "xla": _xla,
    "cudnn": _cudnn,
    "splash": _splash,
}
