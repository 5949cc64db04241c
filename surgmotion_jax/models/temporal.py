"""Causal temporal heads over one pooled feature a moment: what was seen so far in, logits of each moment out.

Two kinds: a temporal convolutional network (dilated causal convolutions in residual blocks, after MS-TCN, arXiv
1903.01945) and a gated recurrent unit (arXiv 1406.1078). A moment's output depends on that moment and earlier ones.

Letters: B videos, N moments, D width of the features, C width of the head, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.models.config import DTYPES
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.transformer import LayerNorm, Linear

KINDS = ("tcn", "gru")


@dataclass(frozen=True)
class TemporalConfig:
    """A causal head. A TCN of depth 8 and kernel 3 sees 511 moments: 8.5 minutes at one a second."""

    width: int  # of the features
    outputs: int  # classes, or numbers to regress
    kind: str = "tcn"  # tcn, gru
    hidden: int = 64  # width of its blocks or of its state
    depth: int = 8  # TCN: blocks, with dilations 1, 2, 4, ...; GRU: layers
    kernel: int = 3  # TCN: moments that one convolution reads
    norm_eps: float = 1e-5  # of its layer norms
    dtype: str = "float32"  # computation; parameters and norms stay float32

    def __post_init__(self) -> None:
        one_of("temporal.kind", self.kind, KINDS)
        one_of("temporal.dtype", self.dtype, DTYPES)
        for name in ("width", "outputs", "hidden", "depth", "kernel"):
            at_least(f"temporal.{name}", getattr(self, name), 1)

    @property
    def reach(self) -> int:
        """How many moments an output depends on, its own included; 0 for all of them (GRU)."""
        return 1 + (self.kernel - 1) * (2**self.depth - 1) if self.kind == "tcn" else 0


class CausalConvolution(nn.Module):
    """Each moment's sum over moments n, n - dilation, n - 2 dilation, ...; before the first there is nothing."""

    config: TemporalConfig
    dilation: int

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array) -> jax.Array:
        c = self.config
        # One matrix product over the shifted copies side by side: unlike a convolution it stays one under vmap.
        shifted = [_delayed(x_BxNxC, self.dilation * tap) for tap in range(c.kernel)]
        return Linear((c.hidden,), (None, "embed"), c.dtype, name="taps")(jnp.concatenate(shifted, axis=-1))


class GatedUnit(nn.Module):
    """A GRU layer; the state stays as it is over moments that are not valid."""

    config: TemporalConfig

    @nn.compact
    def __call__(self, x_BxNxC: jax.Array, valid_BxN: jax.Array) -> jax.Array:
        c = self.config
        gates_BxNx3xC = Linear((3, c.hidden), ("embed", None, None), c.dtype, name="input")(x_BxNxC)
        init = nn.with_partitioning(nn.initializers.orthogonal(), ("embed", None))
        kernel: jax.Array = self.param("kernel", init, (c.hidden, 3 * c.hidden), jnp.float32)  # type: ignore[assignment]
        kernel = kernel.astype(c.dtype)

        def advance(state_BxC: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            gate_Bx3xC, valid_B = now
            memory_Bx3xC = (state_BxC @ kernel).reshape(gate_Bx3xC.shape)
            keep, reset = (jax.nn.sigmoid(gate_Bx3xC[:, i] + memory_Bx3xC[:, i]) for i in range(2))
            candidate = jnp.tanh(gate_Bx3xC[:, 2] + reset * memory_Bx3xC[:, 2])
            state_BxC = jnp.where(valid_B[:, None], keep * state_BxC + (1 - keep) * candidate, state_BxC)
            return state_BxC, state_BxC

        start = jnp.zeros((x_BxNxC.shape[0], c.hidden), c.dtype)
        _, out_NxBxC = jax.lax.scan(advance, start, (gates_BxNx3xC.swapaxes(0, 1), valid_BxN.swapaxes(0, 1)))
        return out_NxBxC.swapaxes(0, 1)


class Temporal(nn.Module):
    """See the module."""

    config: TemporalConfig

    @nn.compact
    def __call__(self, x_BxNxD: jax.Array, valid_BxN: jax.Array) -> jax.Array:
        c = self.config
        normed = LayerNorm(c.norm_eps, name="norm_in")(x_BxNxD)
        x = Linear((c.hidden,), ("embed", None), c.dtype, name="project")(normed)
        for layer in range(c.depth):
            y = LayerNorm(c.norm_eps, name=f"norm{layer}")(x)
            x = x + (self._convolved(y, valid_BxN, layer) if c.kind == "tcn" else self._recurred(y, valid_BxN, layer))
        y = LayerNorm(c.norm_eps, name="norm_out")(x)
        return Linear((c.outputs,), ("embed", None), c.dtype, name="linear")(y).astype(jnp.float32)

    def _convolved(self, x_BxNxC: jax.Array, valid_BxN: jax.Array, layer: int) -> jax.Array:
        c = self.config
        known = jnp.where(valid_BxN[..., None], x_BxNxC, 0)
        y = jax.nn.gelu(CausalConvolution(c, 2**layer, name=f"conv{layer}")(known), approximate=False)
        return Linear((c.hidden,), ("embed", None), c.dtype, name=f"out{layer}")(y)

    def _recurred(self, x_BxNxC: jax.Array, valid_BxN: jax.Array, layer: int) -> jax.Array:
        return GatedUnit(self.config, name=f"gru{layer}")(x_BxNxC.astype(self.config.dtype), valid_BxN)


def temporal(
    config: TemporalConfig, params: Params, features_BxNxD: jax.Array, valid_BxN: jax.Array | None = None
) -> jax.Array:
    """Logits or scores of every moment, [B,N,K] float32.

    Moments that are not `valid` (padding, gaps) have no influence on others. Raises ValueError for features of
    another rank or width.
    """
    if features_BxNxD.ndim != 3 or features_BxNxD.shape[-1] != config.width:
        raise ValueError(
            f"features have shape {features_BxNxD.shape}; a temporal head takes [videos, moments, {config.width}]: one "
            "pooled feature a moment, of the encoder that it was made for."
        )
    if valid_BxN is None:
        valid_BxN = jnp.ones(features_BxNxD.shape[:2], bool)
    return Temporal(config).apply({"params": params}, features_BxNxD, valid_BxN)  # type: ignore[return-value]


def init_temporal(config: TemporalConfig, key: jax.Array) -> Params:
    """Parameters of a fresh head as plain nested dicts of float32 arrays."""
    features, valid = jnp.zeros((1, 1, config.width)), jnp.ones((1, 1), bool)
    return nn.meta.unbox(Temporal(config).init(key, features, valid)["params"])


def _delayed(x_BxNxC: jax.Array, moments: int) -> jax.Array:
    """x shifted to later moments, zeros before the first."""
    kept = max(x_BxNxC.shape[1] - moments, 0)
    return jnp.pad(x_BxNxC[:, :kept], ((0, 0), (x_BxNxC.shape[1] - kept, 0), (0, 0)))
