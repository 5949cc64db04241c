"""Starting from another run's weights: stage 2 after stage 1, or continued pretraining."""

from __future__ import annotations

from typing import Any

import jax

from surgmotion_jax.checkpoints.errors import CheckpointMismatch
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.state import TrainState


def start_from(init: InitConfig, state: TrainState) -> TrainState:
    """`state` with encoder, predictor and target of a pretraining workdir, the step counter staying at 0.

    Positions are computed, not stored, so another crop or clip length fits as it is. Raises CheckpointMismatch naming
    the leaves that differ in shape.
    """
    folder = f"{init.checkpoint}/checkpoints"
    names = ["params", "target", *(["moments"] if init.optimizer else [])]
    loaded = load_subtree(folder, names).state
    current = leaves_by_path({name: getattr(state, name) for name in names})
    found = leaves_by_path(loaded)
    wrong = [
        f"{path}: {_shape(found.get(path))} in the checkpoint, {_shape(current.get(path))} in this config"
        for path in sorted(found.keys() | current.keys())
        if _shape(found.get(path)) != _shape(current.get(path))
    ]
    if wrong:
        raise CheckpointMismatch(folder, wrong)
    placed = {path: jax.device_put(found[path], leaf.sharding) for path, leaf in current.items()}

    def rebuild(name: str) -> Any:
        tree = getattr(state, name)
        paths = leaves_by_path({name: tree})
        return jax.tree.unflatten(jax.tree.structure(tree), [placed[path] for path in paths])

    return state._replace(**{name: rebuild(name) for name in names})


def _shape(leaf: Any) -> str:
    return "absent" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
