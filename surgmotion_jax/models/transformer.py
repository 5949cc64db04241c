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

from surgmotion_jax.models.attention import attend, settled
from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.derivatives import gelu, layer_norm
from surgmotion_jax.models.fused_attention import (
    ATTENTION_OUT,
    INTERPRETED,
    PACKED,
    QKV,
    PackedQkv,
    Setting,
    packed_attention,
)
from surgmotion_jax.models.kernels.rotation import LaneCode, lane_code
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.linear import GATHERED, Linear, named
from surgmotion_jax.models.positions import Rotary, apply_rotary

TOKENS = ("batch", None, "act_embed")
Code = Rotary | LaneCode  # the position code of one head, or of a group of them

# What a block can keep for the backward pass besides its input, by name; C values a token, M for the hidden units.
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


class LayerNorm(nn.Module):
    """Layer norm over the last axis, computed and returned in float32."""

    eps: float
    one_pass: bool = False  # as `layer_norm` takes it

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        scale = self.param("scale", named(nn.initializers.ones, ("norm",)), (width,), jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, ("norm",)), (width,), jnp.float32)
        return layer_norm(x, scale, bias, self.eps, self.one_pass)


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
    def __call__(self, x_BxNxC: jax.Array, code: Code | None, valid_BxN: jax.Array | None = None) -> jax.Array:
        c, layout = self.config, self.layout
        axes, features = ("embed", None, "heads", None), (3, c.heads, c.head_dim)
        if c.attention in PACKED:
            setting = Setting(c.head_dim, layout, c.attention == INTERPRETED)
            qkv, bias = PackedQkv(features, axes, c.dtype, layout=layout, name="qkv")(x_BxNxC)
            out_BxNxHxD = packed_attention(qkv, bias, code, setting).reshape(*x_BxNxC.shape[:2], *features[1:])
        else:
            qkv = Linear(features, axes, c.dtype, layout=layout, name="qkv")(x_BxNxC)
            q, k, v = (qkv[:, :, i] for i in range(3))
            if isinstance(code, Rotary):
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
        self, carry: tuple[jax.Array, jax.Array], slot: jax.Array, code: Code | None, valid_BxN: jax.Array | None
    ) -> tuple[Any, None]:
        c, keep = self.config, self.layout.constrain
        norm = partial(LayerNorm, c.norm_eps, one_pass=self.layout.platform == "tpu")
        x, captured_LxBxNxC = carry
        with jax.named_scope("attention"):
            normed = norm(name="norm1")(x)
            x = keep(x + Attention(c, self.layout, name="attn")(normed, code, valid_BxN), TOKENS)
            x = checkpoint_name(x, MIDDLE)
        with jax.named_scope("mlp"):
            x = keep(x + Mlp(c, self.layout, name="mlp")(norm(name="norm2")(x)), TOKENS)
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
        c = settled(self.config, x_BxNxC.shape[1], self.layout, masked=valid_BxN is not None)
        packed = c.attention in PACKED and code is not None
        block_code = lane_code(code, c.head_dim) if packed and code is not None else code
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
        carry = x_BxNxC, captured
        (x_BxNxC, captured), _ = blocks(c, self.layout, name="blocks")(carry, slots, block_code, valid_BxN)
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
