"""Predictions of fine-tuned candidates. Letters: H candidates, B moments, T frames, S side of the square."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from surgmotion_jax.evaluate.features.windows_of_cases import padded
from surgmotion_jax.evaluate.finetune.network import Network
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.models.parameters import Params


class TunedPredictor:
    """A `Predictor` of pixels: candidates run one after the other, each over all devices.

    The trained parameters of all of them lie on the devices, so that a window is decoded once for all.
    """

    def __init__(self, network: Network, objective: Objective, params: Params, names: Sequence[str]) -> None:
        self.names, self._network = tuple(names), network
        each = [jax.tree.map(lambda leaf, n=n: leaf[n], params) for n in range(len(self.names))]
        self._params = [network.placed(one, network.abstract) for one in each]

        def run(params: Params, frozen: Params, video: jax.Array) -> jax.Array:
            return objective.predict(network.apply(params, frozen, video))

        self._run = jax.jit(run)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[H,B,...] from uint8 windows [B,T,S,S,3]."""
        layout = self._network.layout
        video = jax.device_put(padded(rows, len(rows) + -len(rows) % layout.batch_parts), layout.batch)
        return np.stack([np.asarray(self._run(p, self._network.frozen, video))[: len(rows)] for p in self._params])
