"""The network of a predictor: context features and positions of masked tokens in, features of those tokens out.

Letters: B batch, K context tokens, M masked (target) tokens, D width of the encoder's training output, E predictor
width, O width of the predicted features (D unless the model is distilled).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from surgmotion_jax.models.backbone import Predicted
from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.linear import WEIGHT_INIT, Linear, named
from surgmotion_jax.models.positions import Rotary, position_code, position_rows
from surgmotion_jax.models.transformer import TOKENS, LayerNorm, Trunk


class Predictor(nn.Module):
    """Predictor over visible and masked tokens together. They are not sorted: attention does not see their order.

    Variants replace one of its four parts: `embed`, `mark`, `code`, `outputs`.
    """

    config: ModelConfig
    layout: Layout

    @nn.compact
    def __call__(
        self,
        context_BxKxD: jax.Array,
        context_ids_BxK: jax.Array,
        target_ids_BxM: jax.Array,
        grid: Grid,
        mask_index: int,
        visible: bool = False,
        image: bool = False,
    ) -> Predicted:
        c = self.config.predictor_trunk
        x = self.embed(context_BxKxD)
        masked = jnp.broadcast_to(self.mask_token(mask_index).astype(x.dtype), (*target_ids_BxM.shape, c.width))
        ids = jnp.concatenate([context_ids_BxK, target_ids_BxM], axis=1)
        x = self.mark(jnp.concatenate([x, masked], axis=1), image)
        rows = position_rows(c.positions, ids, grid, c.width)
        x = self.layout.constrain(x if rows is None else x + rows.astype(x.dtype), TOKENS)
        x, _ = Trunk(c, self.layout, name="trunk")(x, self.code(ids, grid))
        split = context_ids_BxK.shape[1]
        return self.outputs(x[:, :split], x[:, split:], visible)

    def embed(self, context_BxKxD: jax.Array) -> jax.Array:
        """Context features to the predictor's width, [B,K,E]."""
        c = self.config.predictor_trunk
        return Linear((c.width,), ("embed", None), c.dtype, name="embed")(context_BxKxD)

    def mask_token(self, index: int) -> jax.Array:
        """The learnt token [E] at every masked place."""
        settings, width = self.config.predictor, self.config.predictor_trunk.width
        init = nn.initializers.zeros if settings.zero_init else WEIGHT_INIT
        shape = (settings.mask_tokens, width)
        return self.param("mask_tokens", named(init, (None, "embed")), shape, jnp.float32)[index]

    def mark(self, x_BxNxE: jax.Array, image: bool) -> jax.Array:
        """Visible and masked tokens, marked as those of an image or of a video where the model tells them apart."""
        del image
        return x_BxNxE

    def code(self, ids_BxN: jax.Array, grid: Grid) -> Rotary | None:
        """Rotary coefficients of the tokens `ids`, or None where positions were added."""
        c = self.config.predictor_trunk
        return position_code(c.positions, ids_BxN, grid, c.head_dim)

    def outputs(self, context_BxKxE: jax.Array, target_BxMxE: jax.Array, visible: bool) -> Predicted:
        """Norms and projects the last block's output; of visible tokens too, if asked for and there is such a map."""
        del context_BxKxE, visible
        return Predicted(self.project(self.norm()(target_BxMxE), "proj"), None)

    def norm(self) -> LayerNorm:
        """The norm after the last block."""
        return LayerNorm(self.config.predictor_trunk.norm_eps, name="norm")

    def project(self, x_BxNxE: jax.Array, name: str) -> jax.Array:
        """A linear map of this name to the width of what is predicted, [B,N,O]."""
        c = self.config.predictor_trunk
        return Linear((self.config.target_width,), (None, "embed"), c.dtype, name=name)(x_BxNxE)
