"""Attention implementations, chosen by name; an unavailable one is an error, never a silent fallback.

Letters: B batch, Q queries, N tokens, H heads, D head dimension. Encoder and predictor need no mask: their token
counts are static. Probes may see padded tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from surgmotion_jax.checks import one_of
from surgmotion_jax.models.config import ATTENTIONS, ModelConfig, TransformerConfig
from surgmotion_jax.models.derivatives import softmax_attention
from surgmotion_jax.models.fused_attention import ATTENTION_OUT, FUSED, INTERPRETED, PACKED, why_not
from surgmotion_jax.models.layout import Layout

HEADS = ("batch", None, "act_heads", None)
AUTO = "auto"
CUDNN_WIDEST, CUDNN_STEP = 128, 8  # of a head: what cuDNN takes, and in what steps
SPLASH_QUERIES, SPLASH_KEYS = 128, 2048  # of a block; at most so many keys


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
    Raises ValueError if `valid` is given to an implementation that cannot mask, for 'auto', which names none, and for
    the fused kernels, which are given no separate queries, keys and values.
    """
    if implementation == AUTO:
        raise ValueError("attention 'auto' must be resolved for a platform first: see resolve_attention.")
    if implementation in PACKED:
        raise ValueError(f"attention {implementation!r} takes packed projections: see fused_attention; use 'splash'.")
    if valid_BxN is None:
        return IMPLEMENTATIONS[implementation](q_BxQxHxD, k_BxNxHxD, v_BxNxHxD, layout)
    if implementation != "xla":
        raise ValueError(
            f"attention {implementation!r} cannot leave out invalid tokens; use 'xla', or pass valid=None."
        )
    return _xla(q_BxQxHxD, k_BxNxHxD, v_BxNxHxD, layout, valid_BxN)


def resolve_attention(model: ModelConfig, platform: str) -> ModelConfig:
    """`model` with attention 'auto' replaced by what `platform` ('cpu', 'gpu', 'tpu') runs best."""
    if model.attention != AUTO:
        return model
    head_dims = model.encoder.head_dim, model.predictor_trunk.head_dim
    return dataclasses.replace(model, attention=best_attention(platform, model.dtype, head_dims))


def best_attention(platform: str, dtype: str, head_dims: Sequence[int]) -> str:
    """The fused kernels on a TPU, cuDNN on a GPU in bfloat16 for heads that it takes, XLA's own elsewhere."""
    taken = all(0 < size <= CUDNN_WIDEST and size % CUDNN_STEP == 0 for size in head_dims)
    gpu = "cudnn" if dtype == "bfloat16" and taken else "xla"
    return {"tpu": FUSED, "gpu": gpu}.get(platform, "xla")


def settled(c: TransformerConfig, tokens: int, layout: Layout, *, masked: bool = False) -> TransformerConfig:
    """`c` with the attention that its blocks have over so many tokens: another one where fused kernels do not apply.

    See `why_not`. Splash takes any heads and lengths; XLA's own takes a mask of valid tokens as well.
    """
    if c.attention not in PACKED or not (masked or why_not(c, tokens, layout.parts("heads"), layout.vmem_bytes)):
        return c
    return dataclasses.replace(c, attention="xla" if masked or c.attention == INTERPRETED else "splash")


def check_attention(implementation: str, platform: str, dtype: str) -> None:
    """Raises ValueError if `implementation` cannot run on `platform` ('cpu', 'gpu', 'tpu') in `dtype`."""
    if implementation != INTERPRETED:
        one_of("model.attention", implementation, (*ATTENTIONS, AUTO))
    needs = {"cudnn": "gpu", "splash": "tpu", FUSED: "tpu"}.get(implementation)
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
    padded, blocks = splash_blocks(length)

    def to_kernel(x: jax.Array) -> jax.Array:
        return jnp.pad(x, ((0, 0), (0, padded - length), (0, 0), (0, 0))).swapaxes(1, 2)

    segment = (jnp.arange(padded) >= length).astype(jnp.int32)
    kernel = splash.make_splash_mha_single_device(
        masks.MultiHeadMask([masks.FullMask((padded, padded))] * heads),
        block_sizes=splash.BlockSizes(**blocks),  # type: ignore[arg-type]
        interpret=interpret,
        residual_checkpoint_name=ATTENTION_OUT,
    )
    run = jax.vmap(lambda q, k, v: kernel(q, k, v, segment_ids=splash.SegmentIds(segment, segment)))
    out_BxHxNxD = run(to_kernel(q_BxNxHxD * head_dim**-0.5), to_kernel(k_BxNxHxD), to_kernel(v_BxNxHxD))
    return out_BxHxNxD.swapaxes(1, 2)[:, :length].astype(q_BxNxHxD.dtype)


def splash_blocks(length: int) -> tuple[int, dict[str, int]]:
    """(length padded to whole blocks, sizes of the blocks): few queries against as many keys as can be.

    JAX's own choice, 128 x 128, makes a step of so little work that starting it costs more.
    """
    parts = -(-length // SPLASH_KEYS)
    keys = -(-length // (parts * SPLASH_QUERIES)) * SPLASH_QUERIES
    queries = ("block_q", "block_q_dkv", "block_q_dq")
    names = ("block_kv", "block_kv_compute", "block_kv_dkv", "block_kv_dkv_compute", "block_kv_dq")
    return parts * keys, dict.fromkeys(queries, SPLASH_QUERIES) | dict.fromkeys(names, keys)


IMPLEMENTATIONS: dict[str, Callable[[jax.Array, jax.Array, jax.Array, Layout], jax.Array]] = {
    "xla": _xla,
    "cudnn": _cudnn,
    "splash": _splash,
}
