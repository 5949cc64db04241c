"""What V-JEPA 2.1 (arXiv 2603.14482) adds around the trunk: normed levels, and embeddings of the modality.

Letters: B batch, N tokens, C width, L levels.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.transformer import named, normalise

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


def check_layers(config: ModelConfig, layers: tuple[int, ...]) -> None:
    """Raises ValueError unless `layers` are distinct blocks whose outputs can be normed."""
    depth, levels = config.encoder.depth, level_blocks(config)
    if len(set(layers)) != len(layers) or not all(0 <= i < depth for i in layers):
        raise ValueError(f"layers is {layers}; give distinct block numbers in 0..{depth - 1}.")
    if levels and not set(layers) <= set(levels):
        raise ValueError(f"layers is {layers}; this V-JEPA 2.1 encoder has norms after blocks {levels} only.")


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
