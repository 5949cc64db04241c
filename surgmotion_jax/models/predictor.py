"""The predictor: context features and the positions of masked tokens in, predicted features of those tokens out.

Letters: B batch, K context tokens, M masked (target) tokens, C encoder width, E predictor width.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.encoder import logical_axes, position_code, position_rows
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.transformer import (
    TOKENS,
    WEIGHT_INIT,
    LayerNorm,
    Linear,
    Trunk,
    named,
    rescale_residual_branches,
)

Params = dict[str, Any]


class Predictor(nn.Module):
    """V-JEPA 2 predictor. Tokens are not sorted by position: attention does not see their order."""

    config: ModelConfig
    layout: Layout

    @nn.compact
    def __call__(
        self, context_BxKxC: jax.Array, context_ids: jax.Array, target_ids: jax.Array, grid: Grid, mask_index: int
    ) -> jax.Array:
        c, settings = self.config.predictor_trunk, self.config.predictor
        x = Linear((c.width,), ("embed", None), c.dtype, name="embed")(context_BxKxC)
        init = nn.initializers.zeros if settings.zero_init else WEIGHT_INIT
        tokens = self.param("mask_tokens", named(init, (None, "embed")), (settings.mask_tokens, c.width), jnp.float32)
        masked = jnp.broadcast_to(tokens[mask_index].astype(x.dtype), (*target_ids.shape, c.width))
        ids = jnp.concatenate([context_ids, target_ids], axis=1)
        x = jnp.concatenate([x, masked], axis=1)
        rows = position_rows(c.positions, ids, grid, c.width)
        x = self.layout.constrain(x if rows is None else x + rows.astype(x.dtype), TOKENS)
        x, _ = Trunk(c, self.layout, name="trunk")(x, position_code(c.positions, ids, grid, c.head_dim))
        x = LayerNorm(c.norm_eps, name="norm")(x[:, context_ids.shape[1] :])
        return Linear((self.config.encoder.width,), (None, "embed"), c.dtype, name="proj")(x)


def predict(
    config: ModelConfig,
    params: Params,
    context_BxKxC: jax.Array,
    context_ids_BxK: jax.Array,
    target_ids_BxM: jax.Array,
    *,
    grid: Grid,
    mask_index: int | None = None,
    layout: Layout = SINGLE_DEVICE,
) -> jax.Array:
    """Predicts the encoder's features at `target_ids` from context features. Returns [B,M,C], not normalised.

    `mask_index` None takes the config's. The grid is the clip's own; facebookresearch and Hugging Face take rows and
    columns from the square grid of the constructor, so pass that grid to reproduce them on other inputs.
    """
    index = config.predictor.mask_index if mask_index is None else mask_index
    return Predictor(config, layout).apply(  # type: ignore[return-value]
        {"params": params}, context_BxKxC, context_ids_BxK, target_ids_BxM, grid, index
    )


def _boxed_predictor(config: ModelConfig, key: jax.Array) -> Params:
    context, ids = jnp.zeros((1, 1, config.encoder.width)), jnp.zeros((1, 1), jnp.int32)
    return Predictor(config, SINGLE_DEVICE).init(key, context, ids, ids, Grid(1, 1, 1), 0)["params"]


def init_predictor(config: ModelConfig, key: jax.Array) -> Params:
    """Parameters of a fresh predictor as plain nested dicts of float32 arrays."""
    params = nn.meta.unbox(_boxed_predictor(config, key))
    trunk = params["trunk"]
    return {**params, "trunk": {**trunk, "blocks": rescale_residual_branches(trunk["blocks"])}}


def predictor_axes(config: ModelConfig) -> Params:
    """Logical axis names of every parameter, in the tree of `init_predictor`."""
    return logical_axes(lambda: _boxed_predictor(config, jax.random.key(0)))
