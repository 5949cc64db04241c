"""Layer norm, GELU and attention with derivatives written out, so that each keeps little for the backward pass.

Left to automatic differentiation, each keeps every intermediate that some derivative mentions: several arrays of the
size of the hidden units for a GELU, two of tokens x tokens for a softmax. A stack of blocks writes all of them to
memory and reads them back. Here a layer norm keeps its normalised input, a GELU its input, attention its operands and
its weights once. A rematerialisation policy may keep less; what is computed again is then the forward formula.

Letters: B batch, Q queries, N tokens, H heads, D head dimension, C width.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp


def _wide(x: jax.Array) -> jax.Array:
    """In float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(x: jax.Array, scale_C: jax.Array, bias_C: jax.Array, eps: float, one_pass: bool = False) -> jax.Array:
    """Zero mean and unit variance over the last axis, then scaled and shifted; in float32 or wider.

    In one pass the variance is the mean square less the square of the mean, both of which a TPU sums while it computes
    what is normalised. In float32 it is off by about 1e-7 (1 + (mean / deviation)^2): 1e-5 of itself where the mean is
    ten deviations, 1e-3 where it is a hundred.
    """
    return _layer_norm_forward(x, scale_C, bias_C, eps, one_pass)[0]


Normed = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _layer_norm_forward(
    x: jax.Array, scale_C: jax.Array, bias_C: jax.Array, eps: float, one_pass: bool
) -> tuple[jax.Array, Normed]:
    wide = _wide(x)
    mean = wide.mean(-1, keepdims=True)
    centred = wide - mean
    if one_pass:
        variance = jnp.maximum(jnp.square(wide).mean(-1, keepdims=True) - jnp.square(mean), 0)
    else:
        variance = jnp.square(centred).mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + eps)
    unit = centred * inverse
    like = jnp.zeros((0,), x.dtype)  # carries the dtype that the gradient must have
    return unit * scale_C + bias_C, (unit, inverse, scale_C, like)


def _layer_norm_backward(
    eps: float, one_pass: bool, kept: Normed, slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    del eps, one_pass
    unit, inverse, scale_C, like = kept
    rows = tuple(range(slope.ndim - 1))
    scaled = slope * scale_C
    along = (scaled * unit).mean(-1, keepdims=True)
    by_x = inverse * (scaled - scaled.mean(-1, keepdims=True) - unit * along)
    by_scale, by_bias = (slope * unit).sum(rows), slope.sum(rows)
    return by_x.astype(like.dtype), by_scale.astype(scale_C.dtype), by_bias.astype(scale_C.dtype)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _normal_share(x: jax.Array) -> jax.Array:
    """Share of a standard normal below x."""
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """x times the share of a standard normal below x (erf, not the tanh approximation); computed in float32."""
    wide = _wide(x)
    return (wide * _normal_share(wide)).astype(x.dtype)


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _gelu_backward(x: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    wide = _wide(x)
    density = jnp.exp(-0.5 * jnp.square(wide)) * (1 / math.sqrt(2 * math.pi))
    return ((slope * (_normal_share(wide) + wide * density)).astype(x.dtype),)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def softmax_attention(q_BxQxHxD: jax.Array, k_BxNxHxD: jax.Array, v_BxNxHxD: jax.Array) -> jax.Array:
    """softmax(q k^T) v over the tokens, no scale, no mask; softmax in float32. Returns [B,Q,H,D]."""
    return _attention_forward(q_BxQxHxD, k_BxNxHxD, v_BxNxHxD)[0]


Attended = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _attention_forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, Attended]:
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))
    weights_BxHxQxN = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights_BxHxQxN.astype(v.dtype), v), (q, k, v, weights_BxHxQxN)


def _attention_backward(kept: Attended, slope: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, weights = kept
    by_v = jnp.einsum("bhqk,bqhd->bkhd", weights.astype(v.dtype), slope)
    by_weights = jnp.einsum("bqhd,bkhd->bhqk", slope, v, preferred_element_type=weights.dtype)
    by_logits = weights * (by_weights - (weights * by_weights).sum(-1, keepdims=True))
    by_logits = by_logits.astype(q.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", by_logits, k), jnp.einsum("bhqk,bqhd->bkhd", by_logits, q), by_v


softmax_attention.defvjp(_attention_forward, _attention_backward)
