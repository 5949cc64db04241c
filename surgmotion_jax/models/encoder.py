"""The network of a video encoder: tubelet patches in, normalised tokens out.

Letters: B batch, T frames, H rows, W columns, N tokens of the grid, K tokens given, P values of a patch, C width,
L captured layers.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from surgmotion_jax.models.backbone import Encoded
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.positions import Rotary, position_code, position_rows
from surgmotion_jax.models.transformer import TOKENS, LayerNorm, Linear, Trunk


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
    transposed = partial(_by_transposition, patch=patch, tubelet=tubelet)
    if video.dtype != jnp.bfloat16:
        return transposed(video)
    convolved = partial(_by_convolution, patch=patch, tubelet=tubelet)
    return jax.lax.platform_dependent(video, tpu=convolved, default=transposed)


def _by_transposition(video_BxTxHxWx3: jax.Array, patch: int, tubelet: int) -> jax.Array:
    order = "b (t dt) (h dy) (w dx) c -> b (t h w) (dt dy dx c)"
    return rearrange(video_BxTxHxWx3, order, dt=tubelet, dy=patch, dx=patch)


def _by_convolution(video_BxTxHxWx3: jax.Array, patch: int, tubelet: int) -> jax.Array:
    """The same by a convolution with ones and zeros, exact in bfloat16.

    On a TPU a transposition of patches moves rows of `patch` values that are padded to 128; this takes a third of the
    time by the compiler's estimate.
    """
    batch, frames, height, width, colours = video_BxTxHxWx3.shape
    columns = width // patch
    rows_FxHxW = video_BxTxHxWx3.transpose(0, 1, 4, 2, 3).reshape(-1, height, width)
    row = jnp.eye(patch, dtype=jnp.bfloat16)[:, None, None, :, None]
    column = jnp.eye(width, dtype=jnp.bfloat16).reshape(1, width, columns, 1, patch)
    cut = jax.lax.conv_general_dilated(
        rows_FxHxW, (row * column).reshape(patch, width, -1), (patch,), "VALID", dimension_numbers=("NHC", "HIO", "NHC")
    )
    cut = cut.reshape(batch, frames // tubelet, tubelet, colours, height // patch, columns, patch**2)
    return rearrange(cut, "b t dt c h w p -> b (t h w) (dt p c)")


def gather_tokens(x_BxNxC: jax.Array, ids_BxK: jax.Array) -> jax.Array:
    """Rows `ids` of each example: [B,K,C]."""
    return jnp.take_along_axis(x_BxNxC, ids_BxK[..., None], axis=1)


class Encoder(nn.Module):
    """Encoder over already chosen patches: context tokens are gathered *before* the blocks.

    Variants replace one of its four parts: `embed`, `code`, `blocks`, `outputs`.
    """

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
        c = self.config.encoder
        x = self.embed(patches_BxKxP, image)
        rows = position_rows(c.positions, ids_BxK, grid, c.width)
        x = x if rows is None else x + rows.astype(x.dtype)
        return self.outputs(self.layout.constrain(x, TOKENS), ids_BxK, grid, layers, levels)

    def embed(self, patches_BxKxP: jax.Array, image: bool) -> jax.Array:
        """Patches to tokens [B,K,C], before positions are added; `image`: they are patches of one frame."""
        del image
        return self.tokenise(patches_BxKxP, "patch_embed")

    def tokenise(self, patches_BxKxP: jax.Array, name: str) -> jax.Array:
        """A linear map of this name from patches to tokens [B,K,C]."""
        c = self.config.encoder
        return Linear((c.width,), (None, "embed"), c.dtype, name=name)(patches_BxKxP)

    def code(self, ids_BxK: jax.Array, grid: Grid) -> Rotary | None:
        """Rotary coefficients of the tokens `ids`, or None where positions were added."""
        c = self.config.encoder
        return position_code(c.positions, ids_BxK, grid, c.head_dim)

    def blocks(
        self, x_BxKxC: jax.Array, ids_BxK: jax.Array, grid: Grid, capture: tuple[int, ...]
    ) -> tuple[jax.Array, jax.Array]:
        """The last block's output [B,K,C] and those of the blocks `capture` [L,B,K,C], none of them normed."""
        return Trunk(self.config.encoder, self.layout, name="trunk")(x_BxKxC, self.code(ids_BxK, grid), capture)

    def outputs(
        self, x_BxKxC: jax.Array, ids_BxK: jax.Array, grid: Grid, layers: tuple[int, ...], levels: bool
    ) -> Encoded:
        """Runs the blocks and norms what was asked for; `levels`: tokens are the training output."""
        del levels
        x_BxKxC, captured = self.blocks(x_BxKxC, ids_BxK, grid, layers)
        norm = LayerNorm(self.config.encoder.norm_eps, name="norm")
        return Encoded(norm(x_BxKxC), norm(captured))
