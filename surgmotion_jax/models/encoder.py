"""The video encoder: tubelet patches in, normalised tokens out.

Letters: B batch, T frames, H rows, W columns, N tokens of the grid, K tokens given, P values of a patch, C width,
L captured layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.hierarchy import LevelNorms, add_modality, check_layers, level_blocks, output_blocks
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.positions import Rotary, rotary, sincos_table
from surgmotion_jax.models.transformer import TOKENS, LayerNorm, Linear, Trunk, rescale_residual_branches

Params = dict[str, Any]


class Encoded(NamedTuple):
    """Tokens [B,K,C] float32 after the final norm, and the same for each requested layer, [L,B,K,C].

    Asked for the levels of V-JEPA 2.1, tokens are [B,K,levels*C].
    """

    tokens: jax.Array
    layers: jax.Array


def patchify(video_BxTxHxWx3: jax.Array, patch: int, tubelet: int) -> jax.Array:
    """Cuts a clip into tubelet patches [B,N,P], values in the order (frame, row, column, channel).

    A clip shorter than a tubelet repeats its last frame; frames and pixels beyond the last full patch are dropped,
    as a strided convolution does.
    """
    _, frames, height, width, _ = video_BxTxHxWx3.shape
    if frames < tubelet:
        video_BxTxHxWx3 = jnp.pad(video_BxTxHxWx3, ((0, 0), (0, tubelet - frames), (0, 0), (0, 0), (0, 0)), mode="edge")
        frames = tubelet
    video = video_BxTxHxWx3[:, : frames - frames % tubelet, : height - height % patch, : width - width % patch]
    return rearrange(video, "b (t dt) (h dy) (w dx) c -> b (t h w) (dt dy dx c)", dt=tubelet, dy=patch, dx=patch)


def gather_tokens(x_BxNxC: jax.Array, ids_BxK: jax.Array) -> jax.Array:
    """Rows `ids` of each example: [B,K,C]."""
    return jnp.take_along_axis(x_BxNxC, ids_BxK[..., None], axis=1)


def position_code(positions: str, ids_BxK: jax.Array, grid: Grid, head_dim: int, side: int = 0) -> Rotary | None:
    """Rotary coefficients, or None where positions are added instead. `side` scales rows and columns, see `rotary`."""
    if not positions.startswith("rope"):
        return None
    return rotary(ids_BxK, grid, head_dim, interleaved=positions == "rope", side=side)


def position_rows(positions: str, ids_BxK: jax.Array, grid: Grid, width: int) -> jax.Array | None:
    """Rows of the fixed sin-cos table for the tokens `ids`, or None under rotary positions."""
    if positions.startswith("rope"):
        return None
    return jnp.asarray(sincos_table(grid, width, uniform=positions == "sincos_uniform"))[ids_BxK]


class Encoder(nn.Module):
    """Encoder over already chosen patches: context tokens are gathered *before* the blocks."""

    config: ModelConfig
    layout: Layout

    @nn.compact
    def __call__(
        self,
        patches_BxKxP: jax.Array,
        ids_BxK: jax.Array,
        grid: Grid,
        layers: tuple[int, ...] = (),
        levels: bool = False,
        image: bool = False,
    ) -> Encoded:
        c, v21 = self.config.encoder, self.config.v21
        x = self._embed(patches_BxKxP, image)
        rows = position_rows(c.positions, ids_BxK, grid, c.width)
        x = x if rows is None else x + rows.astype(x.dtype)
        x = self.layout.constrain(x, TOKENS)
        code = position_code(c.positions, ids_BxK, grid, c.head_dim, v21.rope_grid)
        wanted = output_blocks(self.config) if levels and v21.levels else ()
        captures = tuple(dict.fromkeys((*layers, *wanted)))
        x, captured = Trunk(c, self.layout, name="trunk")(x, code, captures)
        if not v21.levels:
            norm = LayerNorm(c.norm_eps, name="norm")
            return Encoded(norm(x), norm(captured))
        blocks, norms = level_blocks(self.config), LevelNorms(v21.levels, c.norm_eps, name="norms")
        captured = norms(captured, tuple(blocks.index(i) for i in captures))
        if wanted:
            outputs = [captured[captures.index(i)] for i in wanted]
            return Encoded(jnp.concatenate(outputs, axis=-1), captured[: len(layers)])
        return Encoded(norms(x[None], (v21.levels - 1,))[0], captured)

    def _embed(self, patches_BxKxP: jax.Array, image: bool) -> jax.Array:
        """Patches to tokens, by the tokenizer of videos or of images."""
        c = self.config.encoder

        def tokens(name: str, patches: jax.Array) -> jax.Array:
            return Linear((c.width,), (None, "embed"), c.dtype, name=name)(patches)

        if not self.config.v21.modality:
            return tokens("patch_embed", patches_BxKxP)
        if self.is_initializing():  # both tokenizers have parameters, whichever is used
            tokens("image_embed", jnp.zeros((1, 1, self.config.image_values)))
        return add_modality(self, tokens("image_embed" if image else "patch_embed", patches_BxKxP), image)


def is_image(config: ModelConfig, video_or_patches: jax.Array, grid: Grid | None = None) -> bool:
    """Whether this goes through the image tokenizer: one frame, or patches of one frame, in a model that has one."""
    if not config.v21.modality:
        return False
    if video_or_patches.ndim == 5:
        return video_or_patches.shape[1] == 1
    one_frame = video_or_patches.shape[-1] == config.image_values
    return one_frame and (config.tubelet > 1 or (grid is not None and grid.time == 1))


def encode(
    config: ModelConfig,
    params: Params,
    video_or_patches: jax.Array,
    ids_BxK: jax.Array | None = None,
    *,
    grid: Grid | None = None,
    layers: tuple[int, ...] = (),
    levels: bool = False,
    layout: Layout = SINGLE_DEVICE,
) -> Encoded:
    """Encodes a clip, or chosen patches of it.

    Args:
      config: the architecture.
      params: parameter tree of `init_encoder`.
      video_or_patches: a normalised clip [B,T,H,W,3], or patches [B,K,P] from `patchify` (then give `ids`, `grid`).
        A clip of one frame is an image to a model with an image tokenizer (V-JEPA 2.1), as are patches of one frame.
      ids_BxK: token numbers to encode; None encodes the whole grid. Given with a clip, they select its tokens.
      grid: token grid; derived from the clip when a clip is given. Time may exceed it (positions extrapolate).
      layers: 0-based blocks whose outputs to return as well, each through the final norm (V-JEPA 2.1: its own).
      levels: return what training predicts and the predictor takes: the normed levels of V-JEPA 2.1 side by side,
        lowest first. V-JEPA 2 has one, its usual tokens.
      layout: placement of activations.

    Returns:
      `Encoded`; tokens in the order of `ids`.

    Raises ValueError for patches without their grid and for layers that do not exist or have no norm.
    """
    image = is_image(config, video_or_patches, grid)
    if video_or_patches.ndim == 5:
        frames, height, width = video_or_patches.shape[1:4]
        grid = grid or config.grid(max(frames, config.tubelet), height, width)
        patches = patchify(video_or_patches, config.patch, 1 if image else config.tubelet)
        if ids_BxK is not None:
            patches = gather_tokens(patches, ids_BxK)
    else:
        patches = video_or_patches
        if grid is None or (ids_BxK is None and patches.shape[1] != grid.tokens):
            raise ValueError(
                f"encode was given patches {patches.shape} without a grid, or without ids for a part of the grid "
                f"({grid}); pass grid=, and ids [B,K] unless all tokens are there."
            )
    check_layers(config, layers)
    if ids_BxK is None:
        ids_BxK = jnp.arange(grid.tokens)[None]
    return Encoder(config, layout).apply(  # type: ignore[return-value]
        {"params": params}, patches, ids_BxK, grid, layers, levels, image
    )


def _boxed_encoder(config: ModelConfig, key: jax.Array) -> Params:
    patches, ids = jnp.zeros((1, 1, config.patch_values)), jnp.zeros((1, 1), jnp.int32)
    return Encoder(config, SINGLE_DEVICE).init(key, patches, ids, Grid(1, 1, 1))["params"]


def init_encoder(config: ModelConfig, key: jax.Array) -> Params:
    """Parameters of a fresh encoder as plain nested dicts of float32 arrays; blocks are stacked on a leading axis."""
    params = nn.meta.unbox(_boxed_encoder(config, key))
    trunk = params["trunk"]
    return {**params, "trunk": {**trunk, "blocks": rescale_residual_branches(trunk["blocks"])}}


def encoder_axes(config: ModelConfig) -> Params:
    """Logical axis names of every parameter, in the tree of `init_encoder`."""
    return logical_axes(lambda: _boxed_encoder(config, jax.random.key(0)))


def logical_axes(boxed_init: Callable[[], Params]) -> Params:
    """Reads the axis names off an initialiser without running it."""
    boxed = jax.eval_shape(boxed_init)
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
