"""Pre-norm transformer blocks, scanned over depth.

Letters: B batch, N tokens, C width, M hidden width, H heads, D head dimension, L layers captured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from surgmotion_jax.models.attention import ATTENTION_OUT, attend
from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.derivatives import gelu, layer_norm
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout, Names
from surgmotion_jax.models.positions import Rotary, apply_rotary

TOKENS = ("batch", None, "act_embed")

# What a block can keep for the backward pass besides its input, by name; C values a token, M for the hidden units.
GATHERED = "gathered_kernel"  # a kernel made whole: no policy keeps it, or every device would hold all parameters
QKV = "qkv"  # rotated queries and keys, and values: 3 C
MIDDLE = "middle"  # the sum after attention: C
HIDDEN = "hidden"  # the MLP's hidden units before GELU: M


def _all_but_gathered(primitive: Any, *_: Any, **parameters: Any) -> bool:
    # A whole kernel comes out of a constraint, then out of `gather_kernel` around it, before it has its name.
    inner = parameters.get("call_jaxpr")
    if primitive.name == "custom_vjp_call" and inner is not None:
        return "sharding_constraint" not in [equation.primitive.name for equation in inner.eqns]
    return primitive.name != "sharding_constraint" and parameters.get("name") != GATHERED


_names = jax.checkpoint_policies.save_only_these_names
REMAT: dict[str, Callable[..., Any]] = {
    "none": _all_but_gathered,
    "full": jax.checkpoint_policies.nothing_saveable,
    "attention": _names(ATTENTION_OUT),
    "projections": _names(ATTENTION_OUT, QKV, MIDDLE, HIDDEN),
    "dots": jax.checkpoint_policies.dots_saveable,
}

# V-JEPA truncates at +-2 *absolute*, that is at 100 standard deviations: a plain normal.
WEIGHT_INIT = nn.initializers.normal(0.02)


def named(init: Callable[..., Any], axes: Names) -> Callable[..., Any]:
    """An initialiser whose parameter carries logical axis names."""
    return nn.with_partitioning(init, axes)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather_kernel(kernel: jax.Array, axes: Names, layout: Layout) -> jax.Array:
    """The kernel whole along its sharded width, on every device; its gradient goes back in shards.

    Left to itself the compiler may gather a kernel anew for each product of a backward pass, and sum whole gradients
    on every device. Said here, there is one gather a pass and one reduce-scatter.
    """
    return layout.constrain(kernel, tuple(None if a == "embed" else a for a in axes))


def _gather_forward(kernel: jax.Array, axes: Names, layout: Layout) -> tuple[jax.Array, None]:
    return gather_kernel(kernel, axes, layout), None


def _gather_backward(axes: Names, layout: Layout, residuals: None, gradient: jax.Array) -> tuple[jax.Array]:
    del residuals
    return (layout.constrain(gradient, axes),)


gather_kernel.defvjp(_gather_forward, _gather_backward)


class Linear(nn.Module):
    """`x @ kernel + bias` with named axes; contracts the last `contract` axes of `x`."""

    features: tuple[int, ...]
    axes: Names
    dtype: Any
    contract: int = 1
    layout: Layout = SINGLE_DEVICE  # given, the kernel is gathered by name, in the computation's dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[x.ndim - self.contract :] + self.features
        out_axes = self.axes[self.contract :]
        # A bias along a replicated output is itself replicated: sharding it would only buy communication.
        bias_axes = tuple(None if a == "embed" else a for a in out_axes)
        kernel = self.param("kernel", named(WEIGHT_INIT, self.axes), shape, jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, bias_axes), self.features, jnp.float32)
        # Flat, because the compiler sums a gradient over heads and head dimensions whole before it cuts it.
        sizes, names = merged(shape[: self.contract], self.axes[: self.contract], self.layout)
        out_sizes, out_names = merged(self.features, out_axes, self.layout)
        kernel = kernel.astype(self.dtype).reshape(sizes + out_sizes)
        kernel = checkpoint_name(gather_kernel(kernel, names + out_names, self.layout), GATHERED)
        x = x.astype(self.dtype).reshape(*x.shape[: x.ndim - self.contract], *sizes)
        y = jnp.tensordot(x, kernel, axes=len(sizes))
        return y.reshape(*y.shape[: y.ndim - len(out_sizes)], *self.features) + bias.astype(self.dtype)


def merged(sizes: tuple[int, ...], names: Names, layout: Layout) -> tuple[tuple[int, ...], Names]:
    """Joins neighbouring axes of which at most the first is divided between devices, such as heads and their width."""
    flat: list[tuple[int, str | None]] = []
    for size, name in zip(sizes, names, strict=True):
        if flat and (name is None or not layout.divides(name)):
            flat[-1] = flat[-1][0] * size, flat[-1][1]
        else:
            flat.append((size, name))
    return tuple(size for size, _ in flat), tuple(name for _, name in flat)


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed and returned in float32."""

    eps: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        scale = self.param("scale", named(nn.initializers.ones, ("norm",)), (width,), jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, ("norm",)), (width,), jnp.float32)
        return layer_norm(x, scale, bias, self.eps)


def normalise(x: jax.Array, eps: float) -> jax.Array:
    """Zero mean and unit variance over the last axis, no affine, in float32 or wider."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)


class Attention(nn.Module):
    """Multi-head self-attention with one fused qkv kernel [C, 3, H, D]."""

    config: TransformerConfig
    layout: Layout

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array, code: Rotary | None, valid_BxN: jax.Array | None = None) -> jax.Array:
        c, layout = self.config, self.layout
        axes = ("embed", None, "heads", None)
        qkv = Linear((3, c.heads, c.head_dim), axes, c.dtype, layout=layout, name="qkv")(x_BxNxC)
        q, k, v = (qkv[:, :, i] for i in range(3))
        if code is not None:
            q, k = apply_rotary(q, code), apply_rotary(k, code)
        q, k, v = (checkpoint_name(a, QKV) for a in (q, k, v))
        out_BxNxHxD = attend(q, k, v, implementation=c.attention, layout=layout, valid_BxN=valid_BxN)
        out = ("heads", None, "embed")
        return Linear((c.width,), out, c.dtype, contract=2, layout=layout, name="proj")(out_BxNxHxD)


class Mlp(nn.Module):
    """Linear, exact (erf) GELU, linear."""

    config: TransformerConfig
    layout: Layout

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array) -> jax.Array:
        c, layout = self.config, self.layout
        hidden_BxNxM = Linear((c.mlp,), ("embed", "mlp"), c.dtype, layout=layout, name="fc1")(x_BxNxC)
        hidden_BxNxM = checkpoint_name(layout.constrain(hidden_BxNxM, ("batch", None, "act_mlp")), HIDDEN)
        return Linear((c.width,), ("mlp", "embed"), c.dtype, layout=layout, name="fc2")(gelu(hidden_BxNxM))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the shape `nn.scan` asks for, with captured outputs."""

    config: TransformerConfig
    layout: Layout

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, jax.Array], slot: jax.Array, code: Rotary | None, valid_BxN: jax.Array | None
    ) -> tuple[Any, None]:
        c, keep = self.config, self.layout.constrain
        x, captured_LxBxNxC = carry
        with jax.named_scope("attention"):
            normed = LayerNorm(c.norm_eps, name="norm1")(x)
            x = keep(x + Attention(c, self.layout, name="attn")(normed, code, valid_BxN), TOKENS)
            x = checkpoint_name(x, MIDDLE)
        with jax.named_scope("mlp"):
            x = keep(x + Mlp(c, self.layout, name="mlp")(LayerNorm(c.norm_eps, name="norm2")(x)), TOKENS)
        if captured_LxBxNxC.size:
            captured_LxBxNxC = jax.lax.dynamic_update_index_in_dim(captured_LxBxNxC, x, slot, 0)
        return (x, captured_LxBxNxC), None


def kept_block(remat: str, layout: Layout) -> type[nn.Module]:
    """`Block` as its backward pass is to find it.

    Where nothing is to be computed again, a policy would only copy what is kept; but where kernels are gathered, one is
    needed to let go of them.
    """
    if remat == "none" and not layout.divides("embed"):
        return Block
    return nn.remat(Block, policy=REMAT[remat], prevent_cse=False)


class Trunk(nn.Module):
    """`depth` blocks as one scanned body: compile time does not grow with depth."""

    config: TransformerConfig
    layout: Layout

    @nn.compact
    def __call__(
        self,
        x_BxNxC: jax.Array,
        code: Rotary | None,
        capture: tuple[int, ...] = (),
        valid_BxN: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the last block's output and the outputs of the blocks `capture`, [L,B,N,C].

        Tokens that are not `valid` are not attended to; without it, all are.
        """
        c = self.config
        # Blocks that are not captured write to a spare last slot, so that the scanned body is the same for all.
        slots = jnp.array([capture.index(i) if i in capture else len(capture) for i in range(c.depth)])
        captured = jnp.zeros((len(capture) + 1 if capture else 0, *x_BxNxC.shape), x_BxNxC.dtype)
        blocks = nn.scan(
            kept_block(c.remat, self.layout),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=c.depth,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        (x_BxNxC, captured), _ = blocks(c, self.layout, name="blocks")((x_BxNxC, captured), slots, code, valid_BxN)
        return x_BxNxC, captured[: len(capture)]


def rescale_residual_branches(blocks: dict[str, Any]) -> dict[str, Any]:
    """Divides the output kernels of layer l = 1..depth by sqrt(2 l), V-JEPA's initialisation."""

    def rescaled(kernel: jax.Array) -> jax.Array:
        layer = jnp.arange(1, kernel.shape[0] + 1, dtype=kernel.dtype)
        return kernel / jnp.sqrt(2 * layer).reshape(-1, *[1] * (kernel.ndim - 1))

    proj, fc2 = blocks["attn"]["proj"], blocks["mlp"]["fc2"]
    return {
        **blocks,
        "attn": {**blocks["attn"], "proj": {**proj, "kernel": rescaled(proj["kernel"])}},
        "mlp": {**blocks["mlp"], "fc2": {**fc2, "kernel": rescaled(fc2["kernel"])}},
    }
