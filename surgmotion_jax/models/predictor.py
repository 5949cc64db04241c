"""The predictor: context features and the positions of masked tokens in, predicted features of those tokens out.

Letters: B batch, K context tokens, M masked (target) tokens, C width of the encoder's training output, E predictor
width, O width of the predicted features (C unless the model is distilled).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.encoder import logical_axes, position_code, position_rows
from surgmotion_jax.models.hierarchy import add_modality
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


class Predicted(NamedTuple):
    """Predicted features of masked tokens [B,M,O] and of visible ones [B,K,O] (None unless asked for)."""

    targets: jax.Array
    context: jax.Array | None


class Predictor(nn.Module):
    """Predictor of V-JEPA 2 and 2.1. Tokens are not sorted by position: attention does not see their order."""

    config: ModelConfig
    layout: Layout

    @nn.compact
    def __call__(
        self,
        context_BxKxC: jax.Array,
        context_ids: jax.Array,
        target_ids: jax.Array,
        grid: Grid,
        mask_index: int,
        visible: bool = False,
        image: bool = False,
    ) -> Predicted:
        c, settings, v21 = self.config.predictor_trunk, self.config.predictor, self.config.v21
        x = self._embed(context_BxKxC)
        init = nn.initializers.zeros if settings.zero_init else WEIGHT_INIT
        tokens = self.param("mask_tokens", named(init, (None, "embed")), (settings.mask_tokens, c.width), jnp.float32)
        masked = jnp.broadcast_to(tokens[mask_index].astype(x.dtype), (*target_ids.shape, c.width))
        ids = jnp.concatenate([context_ids, target_ids], axis=1)
        x = jnp.concatenate([x, masked], axis=1)
        x = add_modality(self, x, image) if v21.modality else x
        rows = position_rows(c.positions, ids, grid, c.width)
        x = self.layout.constrain(x if rows is None else x + rows.astype(x.dtype), TOKENS)
        code = position_code(c.positions, ids, grid, c.head_dim, v21.rope_grid)
        x, _ = Trunk(c, self.layout, name="trunk")(x, code)
        norm, split = LayerNorm(c.norm_eps, name="norm"), context_ids.shape[1]
        targets = self._project(norm(x[:, split:]), "proj")
        # Parameters that are there are made at initialisation, whether or not this call uses them.
        visible = visible or (v21.context_projection and self.is_initializing())
        return Predicted(targets, self._project(norm(x[:, :split]), "context_proj") if visible else None)

    def _embed(self, context_BxKxC: jax.Array) -> jax.Array:
        c = self.config.predictor_trunk
        if self.config.v21.outputs == 1:
            return Linear((c.width,), ("embed", None), c.dtype, name="embed")(context_BxKxC)
        return LevelsEmbed(self.config, name="embed")(context_BxKxC)

    def _project(self, x_BxNxE: jax.Array, name: str) -> jax.Array:
        c = self.config.predictor_trunk
        return Linear((self.config.target_width,), (None, "embed"), c.dtype, name=name)(x_BxNxE)


class LevelsEmbed(nn.Module):
    """Several levels side by side to the predictor's width: linear to the encoder's width, exact GELU, linear."""

    config: ModelConfig

    @nn.compact
    def __call__(self, context_BxKxC: jax.Array) -> jax.Array:
        c = self.config.predictor_trunk
        hidden = Linear((self.config.encoder.width,), ("embed", "mlp"), c.dtype, name="fc1")(context_BxKxC)
        return Linear((c.width,), ("mlp", "embed"), c.dtype, name="fc2")(jax.nn.gelu(hidden, approximate=False))


def predict(
    config: ModelConfig,
    params: Params,
    context_BxKxC: jax.Array,
    context_ids_BxK: jax.Array,
    target_ids_BxM: jax.Array,
    *,
    grid: Grid,
    mask_index: int | None = None,
    image: bool = False,
    layout: Layout = SINGLE_DEVICE,
) -> jax.Array:
    """Predicts the encoder's features at `target_ids` from context features. Returns [B,M,O], not normalised.

    `context` is the encoder's training output (`encode(..., levels=True)`), `image` says that it is of an image.
    `mask_index` None takes the config's. The grid is the clip's own; facebookresearch and Hugging Face take rows and
    columns from the square grid of the constructor, so pass that grid to reproduce them on other inputs.

    Raises ValueError if `context` has another width.
    """
    ids = context_ids_BxK, target_ids_BxM
    return _predicted(config, params, context_BxKxC, *ids, grid, mask_index, False, image, layout).targets


def predict_all(
    config: ModelConfig,
    params: Params,
    context_BxKxC: jax.Array,
    context_ids_BxK: jax.Array,
    target_ids_BxM: jax.Array,
    *,
    grid: Grid,
    mask_index: int | None = None,
    image: bool = False,
    layout: Layout = SINGLE_DEVICE,
) -> Predicted:
    """As `predict`, and predicts the visible tokens too, by the projection that V-JEPA 2.1 has for them.

    Raises ValueError if the model has no such projection, or `context` has another width.
    """
    if not config.v21.context_projection:
        raise ValueError(
            "predict_all predicts visible tokens too, but model.v21.context_projection is False; use predict."
        )
    ids = context_ids_BxK, target_ids_BxM
    return _predicted(config, params, context_BxKxC, *ids, grid, mask_index, True, image, layout)


def _predicted(
    config: ModelConfig,
    params: Params,
    context_BxKxC: jax.Array,
    context_ids_BxK: jax.Array,
    target_ids_BxM: jax.Array,
    grid: Grid,
    mask_index: int | None,
    visible: bool,
    image: bool,
    layout: Layout,
) -> Predicted:
    if context_BxKxC.shape[-1] != config.context_width:
        raise ValueError(
            f"context features are {context_BxKxC.shape[-1]} wide, the predictor takes {config.context_width} "
            f"({config.v21.outputs} x the encoder's {config.encoder.width}); pass encode(..., levels=True).tokens."
        )
    index = config.predictor.mask_index if mask_index is None else mask_index
    return Predictor(config, layout).apply(  # type: ignore[return-value]
        {"params": params}, context_BxKxC, context_ids_BxK, target_ids_BxM, grid, index, visible, image
    )


def _boxed_predictor(config: ModelConfig, key: jax.Array) -> Params:
    context, ids = jnp.zeros((1, 1, config.context_width)), jnp.zeros((1, 1), jnp.int32)
    return Predictor(config, SINGLE_DEVICE).init(key, context, ids, ids, Grid(1, 1, 1), 0)["params"]


def init_predictor(config: ModelConfig, key: jax.Array) -> Params:
    """Parameters of a fresh predictor as plain nested dicts of float32 arrays."""
    params = nn.meta.unbox(_boxed_predictor(config, key))
    trunk = params["trunk"]
    return {**params, "trunk": {**trunk, "blocks": rescale_residual_branches(trunk["blocks"])}}


def predictor_axes(config: ModelConfig) -> Params:
    """Logical axis names of every parameter, in the tree of `init_predictor`."""
    return logical_axes(lambda: _boxed_predictor(config, jax.random.key(0)))
