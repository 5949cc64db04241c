"""The vision transformer of V-JEPA 2 as a `Backbone`, and its predictor.

Letters: B batch, T frames, H rows, W columns, N tokens of the grid, K tokens given, M masked tokens, P values of a
patch, D width of the encoder's training output, O width of the predicted features.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from surgmotion_jax.models.attention import resolve_attention
from surgmotion_jax.models.backbone import Encoded, Facts, FeaturePredictor, PassFlops, Predicted
from surgmotion_jax.models.config import Grid, ModelConfig, TransformerConfig
from surgmotion_jax.models.encoder import Encoder, gather_tokens, patchify
from surgmotion_jax.models.flops import embed_flops, encoder_flops, predictor_flops, recomputed_flops
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.parameters import Axes, Params, fresh, logical_axes
from surgmotion_jax.models.predictor import Predictor


@dataclass(frozen=True)
class Vit:
    """`Backbone` of V-JEPA 2. A variant is a subclass that names another `network`."""

    config: ModelConfig
    network: ClassVar[type[Encoder]] = Encoder

    @property
    def predictor(self) -> FeaturePredictor:
        return VitPredictor(self.config)

    def init(self, key: jax.Array) -> Params:
        return fresh(self._boxed(key))

    def axes(self) -> Axes:
        return logical_axes(lambda: self._boxed(jax.random.key(0)))

    def _boxed(self, key: jax.Array) -> Params:
        patches, ids = jnp.zeros((1, 1, self.config.patch_values)), jnp.zeros((1, 1), jnp.int32)
        return self.network(_anywhere(self.config), SINGLE_DEVICE).init(key, patches, ids, Grid(1, 1, 1))["params"]

    def patchify(self, video_BxTxHxWx3: jax.Array) -> jax.Array:
        tubelet = 1 if self.is_image(video_BxTxHxWx3) else self.config.tubelet
        return patchify(video_BxTxHxWx3, self.config.patch, tubelet)

    def is_image(self, video_or_patches: jax.Array, grid: Grid | None = None) -> bool:
        del video_or_patches, grid
        return False

    def encode(
        self,
        params: Params,
        video_or_patches: jax.Array,
        ids_BxK: jax.Array | None = None,
        *,
        grid: Grid | None = None,
        layers: tuple[int, ...] = (),
        levels: bool = False,
        layout: Layout = SINGLE_DEVICE,
    ) -> Encoded:
        image = self.is_image(video_or_patches, grid)
        patches = video_or_patches
        if video_or_patches.ndim == 5:
            frames, height, width = video_or_patches.shape[1:4]
            grid = grid or self.config.grid(max(frames, self.config.tubelet), height, width)
            patches = self.patchify(video_or_patches.astype(self.config.dtype))  # as the tokeniser does, but sooner
            patches = patches if ids_BxK is None else gather_tokens(patches, ids_BxK)
        if grid is None or (ids_BxK is None and patches.shape[1] != grid.tokens):
            raise ValueError(
                f"encode was given patches {patches.shape} without a grid, or without ids for a part of the grid "
                f"({grid}); pass grid=, and ids [B,K] unless all tokens are there."
            )
        self.check_layers(layers)
        ids_BxK = jnp.arange(grid.tokens)[None] if ids_BxK is None else ids_BxK
        network = self.network(resolve_attention(self.config, layout.platform), layout)
        return network.apply({"params": params}, patches, ids_BxK, grid, layers, levels, image)  # type: ignore[return-value]

    def check_layers(self, layers: tuple[int, ...]) -> None:
        depth = self.config.encoder.depth
        if len(set(layers)) != len(layers) or not all(0 <= i < depth for i in layers):
            raise ValueError(f"layers is {layers}; give distinct block numbers in 0..{depth - 1}.")

    def flops(self, tokens: int) -> PassFlops:
        again = recomputed_flops(self.config.encoder, tokens)
        return PassFlops(encoder_flops(self.config, tokens), embed_flops(self.config, tokens), again)

    def facts(self, predictor: bool) -> Facts:
        model = self.config
        names = {"backbone": model.backbone_name, "positions": model.positions}
        encoder = {**names, **_shape(model.encoder), "patch": model.patch, "tubelet": model.tubelet}
        if not predictor:
            return encoder
        trunk = _shape(model.predictor_trunk) | {"mask_tokens": model.predictor.mask_tokens}
        return {**encoder, "target_width": model.target_width, "predictor": trunk}


@dataclass(frozen=True)
class VitPredictor:
    """`FeaturePredictor` of V-JEPA 2."""

    config: ModelConfig
    network: ClassVar[type[Predictor]] = Predictor

    def init(self, key: jax.Array) -> Params:
        return fresh(self._boxed(key))

    def axes(self) -> Axes:
        return logical_axes(lambda: self._boxed(jax.random.key(0)))

    def _boxed(self, key: jax.Array) -> Params:
        context, ids = jnp.zeros((1, 1, self.config.context_width)), jnp.zeros((1, 1), jnp.int32)
        return self.network(_anywhere(self.config), SINGLE_DEVICE).init(key, context, ids, ids, Grid(1, 1, 1), 0)[
            "params"
        ]

    def predict(
        self,
        params: Params,
        context_BxKxD: jax.Array,
        context_ids_BxK: jax.Array,
        target_ids_BxM: jax.Array,
        *,
        grid: Grid,
        mask_index: int | None = None,
        image: bool = False,
        layout: Layout = SINGLE_DEVICE,
    ) -> jax.Array:
        ids = context_ids_BxK, target_ids_BxM
        return self._predicted(params, context_BxKxD, *ids, grid, mask_index, False, image, layout).targets

    def predict_all(
        self,
        params: Params,
        context_BxKxD: jax.Array,
        context_ids_BxK: jax.Array,
        target_ids_BxM: jax.Array,
        *,
        grid: Grid,
        mask_index: int | None = None,
        image: bool = False,
        layout: Layout = SINGLE_DEVICE,
    ) -> Predicted:
        if not self.config.v21.context_projection:
            raise ValueError(
                "predict_all predicts visible tokens too, but model.v21.context_projection is False; use predict."
            )
        ids = context_ids_BxK, target_ids_BxM
        return self._predicted(params, context_BxKxD, *ids, grid, mask_index, True, image, layout)

    def _predicted(
        self,
        params: Params,
        context_BxKxD: jax.Array,
        context_ids_BxK: jax.Array,
        target_ids_BxM: jax.Array,
        grid: Grid,
        mask_index: int | None,
        visible: bool,
        image: bool,
        layout: Layout,
    ) -> Predicted:
        config = self.config
        if context_BxKxD.shape[-1] != config.context_width:
            raise ValueError(
                f"context features are {context_BxKxD.shape[-1]} wide, the predictor takes {config.context_width} "
                f"({config.v21.outputs} x the encoder's {config.encoder.width}); pass encode(..., levels=True).tokens."
            )
        index = config.predictor.mask_index if mask_index is None else mask_index
        network = self.network(resolve_attention(config, layout.platform), layout)
        return network.apply(  # type: ignore[return-value]
            {"params": params}, context_BxKxD, context_ids_BxK, target_ids_BxM, grid, index, visible, image
        )

    def flops(self, context: int, target: int, visible: bool = False) -> PassFlops:
        embed = 2 * context * self._embed_weights
        again = recomputed_flops(self.config.predictor_trunk, context + target)
        return PassFlops(predictor_flops(self.config, context, target, embed, visible), embed, again)

    @property
    def _embed_weights(self) -> int:
        """Parameters, less biases, between a context feature and the predictor's width."""
        return self.config.context_width * self.config.predictor_trunk.width


def _shape(c: TransformerConfig) -> dict[str, int]:
    return {"width": c.width, "depth": c.depth, "heads": c.heads, "mlp": c.mlp}


def _anywhere(config: ModelConfig) -> ModelConfig:
    """The architecture with an attention that every machine has: parameters do not depend on it."""
    return dataclasses.replace(config, attention="xla")
