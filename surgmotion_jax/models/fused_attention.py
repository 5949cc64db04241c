"""`model.attention=fused`: attention from a packed projection through the TPU kernels of `kernels`.

Parameters are those of every other implementation. Their gathered columns are put by groups of heads, so that the
kernel reads the projection's output as it lies in memory, rotates it, and writes its own output in the order of heads:
between the two projections nothing is transposed, padded or rolled.

Letters: B batch, N tokens, C width, G groups of heads, F = G * 384 columns of the packed projection, E = G * 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.kernels.calls import attention, attention_gradient, vmem_bytes
from surgmotion_jax.models.kernels.rotation import LaneCode
from surgmotion_jax.models.kernels.tiles import HEAD_DIMS, LANES
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.linear import Weighted, multiply

FUSED, INTERPRETED = "fused", "fused_interpreted"  # the second runs the kernels' operations one by one, for tests
PACKED = (FUSED, INTERPRETED)
TOKENS = ("batch", None, "act_heads")
SUMS = ("batch", "act_heads", None, None)

# Names of what a rematerialisation policy can keep: attention's output with its log-sum-exps, so that the kernel is
# not run again backward, and what comes before it. cuDNN names nothing of its own, and runs again whatever is kept.
ATTENTION_OUT = "attention_out"
QKV = "qkv"  # queries, keys and values: 3 C


def why_not(c: TransformerConfig, tokens: int, parts: int, vmem: int) -> str:
    """Why the kernels do not take attention over so many tokens; empty where they do.

    `parts` are the devices that share the heads, `vmem` the bytes of a core's memory.
    """
    if c.head_dim not in HEAD_DIMS:
        return f"heads of {c.head_dim} are not of {', '.join(map(str, HEAD_DIMS))}"
    if c.width % LANES:
        return f"{c.heads} heads of {c.head_dim} are no whole groups of {LANES // c.head_dim}"
    if c.width // LANES % parts:
        return f"{c.width // LANES} groups of heads are not divisible by {parts} devices"
    needed = vmem_bytes(tokens, c.head_dim, c.dtype, rotary=c.positions.startswith("rope"))
    if needed > vmem:
        return f"{tokens} tokens need {needed / 2**20:.0f} MiB of a core that has {vmem / 2**20:.0f}"
    return ""


class PackedQkv(Weighted):
    """Queries, keys and values by groups of heads, [B,N,F], still without their bias, and the bias [F] float32."""

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, heads, head_dim = self.features
        groups = heads * head_dim // LANES
        weights = self.weights(x_BxNxC.shape[-1:], groups)
        u_BxNxF = multiply(x_BxNxC.astype(self.dtype), weights.kernel, ("embed",), ("heads",), self.layout)
        return u_BxNxF, weights.bias.reshape(3, groups, LANES).swapaxes(0, 1).reshape(-1)


@dataclass(frozen=True)
class Setting:
    """What attention depends on besides arrays."""

    head_dim: int
    layout: Layout
    interpret: bool


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def packed_attention(u_BxNxF: jax.Array, bias_F: jax.Array, code: LaneCode | None, s: Setting) -> jax.Array:
    """Attention of u + bias at scale D^-1/2, [B,N,E]; softmax in float32."""
    kernel = partial(attention, head_dim=s.head_dim, vmem=s.layout.vmem_bytes, interpret=s.interpret)
    (out_BxNxE,) = s.layout.per_shard(kernel, (TOKENS, _names(code)), (TOKENS,))(_biased(u_BxNxF, bias_F), code)
    return checkpoint_name(out_BxNxE, ATTENTION_OUT)  # type: ignore[no-any-return]


Kept = tuple[jax.Array, jax.Array, jax.Array, LaneCode | None]


def _forward(u: jax.Array, bias: jax.Array, code: LaneCode | None, s: Setting) -> tuple[jax.Array, Kept]:
    qkv_BxNxF = checkpoint_name(_biased(u, bias), QKV)
    kernel = partial(attention, head_dim=s.head_dim, vmem=s.layout.vmem_bytes, sums=True, interpret=s.interpret)
    out, sums = s.layout.per_shard(kernel, (TOKENS, _names(code)), (TOKENS, SUMS))(qkv_BxNxF, code)
    out, sums = checkpoint_name(out, ATTENTION_OUT), checkpoint_name(sums, ATTENTION_OUT)
    return out, (qkv_BxNxF, out, sums, code)


def _backward(s: Setting, kept: Kept, slope_BxNxE: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    qkv, out, sums, code = kept
    kernel = partial(attention_gradient, head_dim=s.head_dim, vmem=s.layout.vmem_bytes, interpret=s.interpret)
    names = (TOKENS, TOKENS, TOKENS, SUMS, _names(code))
    by_qkv, by_bias = s.layout.per_shard(kernel, names, (TOKENS, SUMS))(qkv, out, slope_BxNxE, sums, code)
    return by_qkv, by_bias.sum((0, 2)).reshape(-1), None


packed_attention.defvjp(_forward, _backward)


def _biased(u_BxNxF: jax.Array, bias_F: jax.Array) -> jax.Array:
    return u_BxNxF + bias_F.astype(u_BxNxF.dtype)


def _names(code: LaneCode | None) -> tuple[str | None, ...]:
    """Of a position code's axes: one for each clip, or one for all."""
    return (None if code is None or code.own.shape[0] == 1 else "batch", None, None)
