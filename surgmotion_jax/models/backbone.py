"""What an encoder must offer, so that it can be trained, evaluated, planned and stored.

`surgmotion_jax/models/vit.py` and `surgmotion_jax/models/vjepa21.py` offer it, and
`surgmotion_jax/models/catalogue.py` finds them by name.

Letters: B batch, T frames, H rows, W columns, N tokens of the grid, K tokens given, M tokens to predict, P values of a
patch, C width of a token, D width of the training output, O width of what is predicted, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax

from surgmotion_jax.models.config import Grid, ModelConfig
from surgmotion_jax.models.layout import SINGLE_DEVICE, Layout
from surgmotion_jax.models.parameters import Axes, Params

Facts = Mapping[str, object]
"""What arrays mean: names of fields to values, nested by section."""


class Encoded(NamedTuple):
    """Tokens [B,K,C] float32 after the final norm, and the same for each requested layer, [L,B,K,C].

    Asked for the training output, tokens are [B,K,D].
    """

    tokens: jax.Array
    layers: jax.Array


class Predicted(NamedTuple):
    """Predicted features of masked tokens [B,M,O] and of visible ones [B,K,O] (None unless asked for)."""

    targets: jax.Array
    context: jax.Array | None


class PassFlops(NamedTuple):
    """Operations of one network for one clip; a multiply and an add count as two."""

    forward: int
    embed: int  # of them, the first product; where its input is pixels, that input needs no gradient
    recomputed: int  # computed again for the gradient, as `model.remat` asks


class Backbone(Protocol):
    """A video encoder of one architecture, without its parameters. Immutable and hashable."""

    @property
    def config(self) -> ModelConfig:
        """The architecture, and how to compute it."""
        ...

    @property
    def predictor(self) -> FeaturePredictor:
        """The network that predicts features of masked tokens from this encoder's training output."""
        ...

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters in float32; those of blocks are stacked on a leading axis."""
        ...

    def axes(self) -> Axes:
        """Logical axis names of every parameter, in the tree of `init`."""
        ...

    def patchify(self, video_BxTxHxWx3: jax.Array) -> jax.Array:
        """Cuts a clip into the patches [B,N,P] of its tokens, token n = (step * rows + row) * columns + column."""
        ...

    def is_image(self, video_or_patches: jax.Array, grid: Grid | None = None) -> bool:
        """Whether the encoder treats this clip [B,T,H,W,3], or these patches [B,K,P] of the grid, as an image."""
        ...

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
        """Encodes a clip, or chosen patches of it.

        Args:
          params: parameter tree of `init`.
          video_or_patches: a normalised clip [B,T,H,W,3], or patches [B,K,P] of `patchify` (then give `ids`, `grid`).
          ids_BxK: token numbers to encode; None encodes the whole grid. Given with a clip, they select its tokens.
          grid: token grid; derived from the clip when a clip is given. Time may exceed it (positions extrapolate).
          layers: 0-based blocks whose outputs to return as well, each normed.
          levels: return the training output, which the predictor takes: for V-JEPA 2.1 its normed levels side by side,
            lowest first, for others the usual tokens.
          layout: placement of activations.

        Returns:
          `Encoded`; tokens in the order of `ids`.

        Raises ValueError for patches without their grid, and as `check_layers` does.
        """
        ...

    def check_layers(self, layers: tuple[int, ...]) -> None:
        """Raises ValueError unless `layers` are distinct blocks whose outputs `encode` can return."""
        ...

    def flops(self, tokens: int) -> PassFlops:
        """Operations on so many tokens, chosen before the first block."""
        ...

    def facts(self, predictor: bool) -> Facts:
        """What its parameters mean, and those of its predictor if asked. Weights fit where the facts are the same."""
        ...


class FeaturePredictor(Protocol):
    """The network between an encoder's training output and the features of masked tokens."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters in float32."""
        ...

    def axes(self) -> Axes:
        """Logical axis names of every parameter, in the tree of `init`."""
        ...

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
        """Predicts the encoder's features at `target_ids` from context features: [B,M,O], not normalised.

        `context` is the encoder's training output (`encode(..., levels=True)`), `image` says that it is of an image.
        `mask_index` None takes the config's. The grid is the clip's own; facebookresearch and Hugging Face take rows
        and columns from the square grid of the constructor, so pass that grid to reproduce them on other inputs.

        Raises ValueError if `context` has another width.
        """
        ...

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
        """As `predict`, and predicts the visible tokens too.

        Raises ValueError, also, if the network has no projection for visible tokens.
        """
        ...

    def flops(self, context: int, target: int, visible: bool = False) -> PassFlops:
        """Operations of predicting so many tokens from so many, and of predicting these too if `visible`."""
        ...
