"""What V-JEPA 2.1 (arXiv 2603.14482) adds to V-JEPA 2: a variant of the vision transformer and of its predictor.

Normed levels, embeddings of the modality, a tokenizer of images, rows and columns scaled to one grid, and a predictor
that takes several levels and predicts visible tokens too. Each is a field of `V21Settings`; the defaults add nothing.

Letters: B batch, N tokens, K tokens given, M masked tokens, P values of a patch, C width, D width of the encoder's
training output, E predictor width, L levels.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.models.backbone import Encoded, Facts, FeaturePredictor, Predicted
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.encoder import Encoder
from surgmotion_jax.models.positions import Rotary, position_code
from surgmotion_jax.models.predictor import Predictor
from surgmotion_jax.models.transformer import Linear, named, normalise
from surgmotion_jax.models.vit import Vit, VitPredictor

# The released 48-block encoder has its third level one block later than an even division has.
UNEVEN = {(48, 4): (11, 23, 37, 47)}

MODALITY_INIT = nn.initializers.normal(1e-6)


def level_blocks(config: ModelConfig) -> tuple[int, ...]:
    """0-based blocks whose outputs have a norm of their own, evenly spaced and ending with the last one."""
    depth, levels = config.encoder.depth, config.v21.levels
    return UNEVEN.get((depth, levels)) or tuple((i + 1) * depth // levels - 1 for i in range(levels))


def output_blocks(config: ModelConfig) -> tuple[int, ...]:
    """The blocks of the levels that training predicts."""
    return level_blocks(config)[-config.v21.outputs :]


class LevelNorms(nn.Module):
    """One layer norm per level, stored together, [L,C]; computed and returned in float32."""

    levels: int
    eps: float

    @nn.compact
    def __call__(self, x: jax.Array, chosen: tuple[int, ...]) -> jax.Array:
        """Normalises x [len(chosen),B,N,C], each entry by its own level's norm."""
        shape = (self.levels, x.shape[-1])
        scale = self.param("scale", named(nn.initializers.ones, ("layers", "norm")), shape, jnp.float32)
        bias = self.param("bias", named(nn.initializers.zeros, ("layers", "norm")), shape, jnp.float32)
        own = jnp.array(chosen, jnp.int32)
        return normalise(x, self.eps) * scale[own][:, None, None] + bias[own][:, None, None]


def add_modality(module: nn.Module, x_BxNxC: jax.Array, image: bool) -> jax.Array:
    """Adds the learned embedding of images or of videos, parameters of `module`, to every token."""
    image_C, video_C = (
        module.param(name, named(MODALITY_INIT, (None,)), x_BxNxC.shape[-1:], jnp.float32)
        for name in ("image_modality", "video_modality")
    )
    return x_BxNxC + (image_C if image else video_C).astype(x_BxNxC.dtype)


class Encoder21(Encoder):
    """The encoder with what `V21Settings` add."""

    def embed(self, patches_BxKxP: jax.Array, image: bool) -> jax.Array:
        if not self.config.v21.modality:
            return super().embed(patches_BxKxP, image)
        if self.is_initializing():  # both tokenizers have parameters, whichever is used
            self.tokenise(jnp.zeros((1, 1, self.config.image_values)), "image_embed")
        return add_modality(self, self.tokenise(patches_BxKxP, "image_embed" if image else "patch_embed"), image)

    def code(self, ids_BxK: jax.Array, grid: Grid) -> Rotary | None:
        c = self.config.encoder
        return position_code(c.positions, ids_BxK, grid, c.head_dim, self.config.v21.rope_grid)

    def outputs(
        self, x_BxKxC: jax.Array, ids_BxK: jax.Array, grid: Grid, layers: tuple[int, ...], levels: bool
    ) -> Encoded:
        """As of every encoder, but each block by its own norm; the training output is the levels side by side."""
        v21 = self.config.v21
        if not v21.levels:
            return super().outputs(x_BxKxC, ids_BxK, grid, layers, levels)
        wanted = output_blocks(self.config) if levels else ()
        captures = tuple(dict.fromkeys((*layers, *wanted)))
        x_BxKxC, captured = self.blocks(x_BxKxC, ids_BxK, grid, captures)
        norms, numbers = LevelNorms(v21.levels, self.config.encoder.norm_eps, name="norms"), level_blocks(self.config)
        captured = norms(captured, tuple(numbers.index(i) for i in captures))
        if wanted:
            side_by_side = jnp.concatenate([captured[captures.index(i)] for i in wanted], axis=-1)
            return Encoded(side_by_side, captured[: len(layers)])
        return Encoded(norms(x_BxKxC[None], (v21.levels - 1,))[0], captured)


class LevelsEmbed(nn.Module):
    """Several levels side by side to the predictor's width: linear to the encoder's width, exact GELU, linear."""

    config: ModelConfig

    @nn.compact
    def __call__(self, context_BxKxD: jax.Array) -> jax.Array:
        c = self.config.predictor_trunk
        hidden = Linear((self.config.encoder.width,), ("embed", "mlp"), c.dtype, name="fc1")(context_BxKxD)
        return Linear((c.width,), ("mlp", "embed"), c.dtype, name="fc2")(jax.nn.gelu(hidden, approximate=False))


class Predictor21(Predictor):
    """The predictor with what `V21Settings` add."""

    def embed(self, context_BxKxD: jax.Array) -> jax.Array:
        if self.config.v21.outputs == 1:
            return super().embed(context_BxKxD)
        return LevelsEmbed(self.config, name="embed")(context_BxKxD)

    def mark(self, x_BxNxE: jax.Array, image: bool) -> jax.Array:
        return add_modality(self, x_BxNxE, image) if self.config.v21.modality else x_BxNxE

    def code(self, ids_BxN: jax.Array, grid: Grid) -> Rotary | None:
        c = self.config.predictor_trunk
        return position_code(c.positions, ids_BxN, grid, c.head_dim, self.config.v21.rope_grid)

    def outputs(self, context_BxKxE: jax.Array, target_BxMxE: jax.Array, visible: bool) -> Predicted:
        norm = self.norm()
        targets = self.project(norm(target_BxMxE), "proj")
        # Parameters that are there are made at initialisation, whether or not this call uses them.
        visible = visible or (self.config.v21.context_projection and self.is_initializing())
        return Predicted(targets, self.project(norm(context_BxKxE), "context_proj") if visible else None)


class Vjepa21(Vit):
    """`Backbone` of V-JEPA 2.1."""

    network: ClassVar[type[Encoder]] = Encoder21

    @property
    def predictor(self) -> FeaturePredictor:
        return Vjepa21Predictor(self.config)

    def is_image(self, video_or_patches: jax.Array, grid: Grid | None = None) -> bool:
        """One frame, or patches of one frame, go through the image tokenizer of a model that has one."""
        config = self.config
        if not config.v21.modality:
            return False
        if video_or_patches.ndim == 5:
            return video_or_patches.shape[1] == 1
        one_frame = video_or_patches.shape[-1] == config.image_values
        return one_frame and (config.tubelet > 1 or (grid is not None and grid.time == 1))

    def check_layers(self, layers: tuple[int, ...]) -> None:
        super().check_layers(layers)
        levels = level_blocks(self.config)
        if levels and not set(layers) <= set(levels):
            raise ValueError(f"layers is {layers}; this V-JEPA 2.1 encoder has norms after blocks {levels} only.")

    def facts(self, predictor: bool) -> Facts:
        fields = dataclasses.asdict(self.config.v21)
        own = fields if predictor else {name: fields[name] for name in ("levels", "rope_grid", "modality")}
        return {**super().facts(predictor), "v21": own}


class Vjepa21Predictor(VitPredictor):
    """`FeaturePredictor` of V-JEPA 2.1."""

    network: ClassVar[type[Predictor]] = Predictor21

    @property
    def _embed_weights(self) -> int:
        if self.config.v21.outputs == 1:
            return super()._embed_weights
        return self.config.encoder.width * (self.config.context_width + self.config.predictor_trunk.width)
