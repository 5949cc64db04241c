"""The optimisers that a config can name. Another one is a function and an entry in the table.

An entry makes an optax optimiser of learning rate 1 and without weight decay: rate, decay, clipping, the precision and
the place of its state come from the config and are the same for all kinds. Nothing need be said about the state: how
it is sharded and how much memory it takes follow from the parameters that its leaves belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon


class Coefficients(Protocol):
    """What an entry reads of the config."""

    @property
    def beta1(self) -> float: ...

    @property
    def beta2(self) -> float: ...

    @property
    def eps(self) -> float: ...


MUON_BETA = 0.95
MUON_RMS = 0.2  # of an update, as AdamW's are found to have, so that its rates and decays serve as they are


def adamw(config: Coefficients) -> optax.GradientTransformation:
    """First and second moments, bias-corrected (arXiv 1711.05101)."""
    return optax.adam(1.0, b1=config.beta1, b2=config.beta2, eps=config.eps)


def muon_and_adam(config: Coefficients) -> optax.GradientTransformation:
    """Orthogonalised momentum for the matrices of the blocks, each layer by itself; Adam for all else.

    Muon is Jordan's (2024), with the size of an update as in arXiv 2502.16982. Embeddings and the last projection are
    left to Adam, as its author advises.
    """
    # optax's muon has an Adam for what is no matrix, but with Nesterov's momentum: it is given matrices alone.
    orthogonalised = muon(
        1.0, beta=MUON_BETA, eps=config.eps, consistent_rms=MUON_RMS, muon_weight_dimension_numbers=matrices
    )
    return optax.partition({"matrix": orthogonalised, "other": adamw(config)}, _labels)


def matrices(params: optax.Params) -> optax.Params:
    """What each parameter is to Muon: the axes of its matrices, or None. Axes that are not named count matrices.

    A kernel of the blocks is [layers, inputs..., outputs], that of the attention's queries, keys and values
    [layers, inputs, 3, heads, outputs of a head]: three matrices a layer.
    """

    def axes(path: jax.tree_util.KeyPath, leaf: jax.Array) -> MuonDimensionNumbers | None:
        names = [getattr(key, "key", "") for key in path]
        if "blocks" not in names or names[-1] != "kernel":
            return None
        if names[-2] == "qkv":
            return MuonDimensionNumbers(1, (3, 4))
        return MuonDimensionNumbers(tuple(range(1, leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def _labels(params: optax.Params) -> optax.Params:
    return jax.tree.map(
        lambda axes: "other" if axes is None else "matrix", matrices(params), is_leaf=lambda x: not isinstance(x, dict)
    )


OPTIMIZERS: dict[str, Callable[[Coefficients], optax.GradientTransformation]] = {
    "adamw": adamw,
    "muon": muon_and_adam,
}
