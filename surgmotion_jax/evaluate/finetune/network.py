"""An encoder and a head as one function of pixels, and where its parameters lie on the devices.

Letters: B windows of a batch, T frames, S side of the square, L layers, N tokens, D width.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import NamedSharding

from surgmotion_jax.evaluate.config import DataConfig, FinetuneConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, features
from surgmotion_jax.evaluate.features.cache import Wanted
from surgmotion_jax.evaluate.finetune.scope import Divided, divided, rate_shares, trained_blocks, whole
from surgmotion_jax.evaluate.heads.networks import Head
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.parallel.mesh import MeshLayout, laid_out
from surgmotion_jax.parallel.rules import parameter_shardings


@dataclass(frozen=True, eq=False)
class Network:
    """Pixels to a head's outputs. Its parameters are `{"encoder": the trained part, "head": the head's}`."""

    config: ModelConfig  # of the encoder, as it is computed in training
    head: Head
    wanted: Wanted  # what of the encoder's output the head reads
    start: Divided  # the encoder's parameters before the first step, on the host
    settings: FinetuneConfig
    layout: MeshLayout

    def init(self, encoder: Params, key: jax.Array) -> Params:
        """Parameters before the first step: the encoder's trained part as it was loaded, and a fresh head."""
        return {"encoder": encoder, "head": self.head.init(key)}

    def apply(self, params: Params, frozen: Params, video_BxTxSxSx3: jax.Array) -> jax.Array:
        """The head's outputs, leading axis B, for uint8 windows."""
        encoder = whole(Divided(frozen, params["encoder"]))
        encoded = features(self.config, encoder, video_BxTxSxSx3, self.wanted.layers, self.layout)
        read = encoded.layers if self.wanted.kind == "layers" else _as_tokens(encoded.tokens)
        return self.head.apply(params["head"], read, None)

    def rate_shares(self, params: Params) -> Params:
        """Of the head's rate, what each parameter has."""
        return rate_shares(params, self.settings.layer_decay, self.config.encoder.depth)

    @functools.cached_property
    def abstract(self) -> Params:
        """Shapes of the trained parameters, each with its sharding.

        Raises ValueError naming the parameter that does not fit the mesh.
        """
        shapes = jax.eval_shape(self.init, self.start.trained, jax.random.key(0))
        return {
            "encoder": self._placed(shapes["encoder"]),
            "head": jax.tree.map(lambda x: laid_out(x, self.layout.replicated), shapes["head"]),
        }

    @functools.cached_property
    def frozen(self) -> Params:
        """What is not trained, on the devices."""
        return self.placed(self.start.frozen, self._placed(self.start.frozen))

    def placed(self, params: Params, like: Params) -> Params:
        """Arrays on the shardings of `like`."""
        return jax.tree.map(lambda x, y: jax.device_put(x, y.sharding), params, like)  # type: ignore[no-any-return]

    def _placed(self, encoder: Params) -> Params:
        """Shapes of a part of the encoder's parameters, sharded by the table of rules."""
        shardings = self._encoder_shardings
        return jax.tree_util.tree_map_with_path(  # type: ignore[no-any-return]
            lambda path, leaf: laid_out(leaf, shardings[jax.tree_util.keystr(path)]), encoder
        )

    @functools.cached_property
    def _encoder_shardings(self) -> dict[str, NamedSharding]:
        backbone = backbone_of(self.config)
        shapes = jax.eval_shape(backbone.init, jax.random.key(0))
        placed = parameter_shardings(self.layout.mesh, shapes, backbone.axes())
        return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(placed)}


def make_network(
    encoder: FrozenEncoder, head: Head, wanted: Wanted, settings: FinetuneConfig, data: DataConfig
) -> Network:
    """The network of an encoder that is to be trained and a head, of the same layout, that reads `wanted` of it.

    Raises ValueError for windows or layers that the encoder does not have, and for more blocks than it has.
    """
    wanted.shape(encoder, data)
    config = dataclasses.replace(encoder.config, remat=settings.remat)
    start = divided(
        jax.tree.map(np.asarray, encoder.params), trained_blocks(settings.blocks, encoder.config.encoder.depth)
    )
    return Network(config, head, wanted, start, settings, encoder.layout)


def _as_tokens(tokens_BxtxhxwxD: jax.Array) -> jax.Array:
    """[B,N,D]."""
    return tokens_BxtxhxwxD.reshape(len(tokens_BxtxhxwxD), -1, tokens_BxtxhxwxD.shape[-1])
