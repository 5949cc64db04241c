"""Starting from weights: stage 2 after stage 1, or continued pretraining from converted weights.

Weights that were trained on another crop or clip length fit as they are. Rotary and sin-cos positions are computed from
the token grid of the run, never stored, so nothing is interpolated; a larger grid or a longer clip extrapolates, as the
releases do (V-JEPA 2, arXiv 2506.09985, trains 16 frames first and 64 later).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from surgmotion_jax.checkpoints.errors import CheckpointError, CheckpointMismatch
from surgmotion_jax.checkpoints.manifest import Manifest, compare_fields
from surgmotion_jax.checkpoints.retention import read_manifest
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import Array, leaves_by_path
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.models.architecture import model_of
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.state import TrainState

# Where each part lies, in a training state and in converted weights alike.
PLACES = {"encoder": "params/encoder", "predictor": "params/predictor", "target": "target"}
OTHER = {"encoder": "target", "target": "encoder"}
TITLES = {"encoder": "online encoder", "predictor": "predictor", "target": "target encoder"}


class Initial(NamedTuple):
    """What a run starts from: `filled` maps a place in the state to the place in the checkpoint that fills it."""

    checkpoint: str
    filled: Mapping[str, str]
    told: tuple[str, ...]


def plan_initial(init: InitConfig, model: ModelConfig, head: str = "predictor", averages: bool = True) -> Initial:
    """Decides, from a checkpoint's manifest alone, what fills the state, before anything is compiled or loaded.

    `init.checkpoint` is a workdir, a checkpoint, or converted weights; each of `init.parts` is taken if it is there.
    The part `predictor` is the network that predicts, `head`: the predictor of features or the decoder of pixels.
    Encoder and target stand in for each other: with only one of them both start from it. A predictor that is absent or
    not asked for stays as initialised. A run that keeps no moving average (`averages` False) has no target to fill.
    Raises CheckpointMissing; CheckpointMismatch with the fields of the architecture
    that differ; CheckpointError if nothing that was asked for is there, or no optimiser state that fits.
    """
    checkpoint = find_weights(init.checkpoint)
    manifest = read_manifest(checkpoint)
    places = PLACES | {"predictor": f"params/{head}"}
    there = [part for part, place in places.items() if _holds(manifest, place)]
    sources = choose_parts(init.parts, there)
    if not sources:
        raise CheckpointError(
            f"{checkpoint}: init.parts asks for {', '.join(init.parts)}; the checkpoint holds "
            f"{', '.join(there) or 'none of the parts'}."
        )
    differences = compare_architecture(manifest, model, head == "predictor" and "predictor" in sources)
    if differences:
        raise CheckpointMismatch(str(checkpoint), differences)
    parts = [part for part in PLACES if averages or part != "target"]
    filled = {places[part]: places[source] for part, source in sources.items() if part in parts}
    if init.optimizer:
        if not _holds(manifest, "opt_state") or any(part != sources.get(part) for part in parts):
            raise CheckpointError(
                f"{checkpoint}: init.optimizer is True, but moments belong to the encoder, predictor and target of one "
                "run together, and converted weights have none; set --config.init.optimizer=False."
            )
        filled["opt_state"] = "opt_state"
    titles = {part: title for part, title in (TITLES | {"predictor": head}).items() if part in parts}
    return Initial(str(checkpoint), filled, describe_parts(sources, there, titles))


def choose_parts(asked: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """Part of the state -> the part that fills it; parts that stay as initialised are left out."""
    substitutes = {part: OTHER.get(part, part) for part in PLACES}
    chosen = {part: part if part in there else substitutes[part] for part in PLACES if part in asked}
    chosen = {part: source for part, source in chosen.items() if source in there}
    for part, other in OTHER.items():
        if part not in chosen and other in chosen:
            chosen[part] = chosen[other]  # as a fresh run does: the target begins as a copy of the encoder
    return chosen


def describe_parts(sources: Mapping[str, str], there: Sequence[str], titles: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence a part: where it starts from, and why not from itself."""
    told = []
    for part, title in titles.items():
        source = sources.get(part)
        if source == part:
            told.append(f"{title}: from the checkpoint")
        elif source:
            why = "not asked for" if part in there else "none in the checkpoint"
            told.append(f"{title}: a copy of the checkpoint's {TITLES.get(source, source)} ({why})")
        else:
            why = "not asked for" if part in there else "none in the checkpoint"
            told.append(f"{title}: freshly initialised ({why})")
    return tuple(told)


def compare_architecture(manifest: Manifest, model: ModelConfig, predictor: bool) -> list[str]:
    """Fields in which the weights differ from this run's model, one sentence each; those of the predictor if used."""
    saved, wanted = (backbone_of(m).facts(predictor) for m in (model_of(manifest.architecture), model))
    return compare_fields(saved, wanted, "model")


def _holds(manifest: Manifest, place: str) -> bool:
    return any(path.startswith(f"{place}/") for path in manifest.tree)


def start_from(initial: Initial, state: TrainState) -> TrainState:
    """`state` with the planned parts of the checkpoint, the step counter staying at 0.

    Raises CheckpointMismatch naming the leaves that differ in shape or dtype, CheckpointDamaged for arrays whose digest
    is not the one saved.
    """
    loaded = leaves_by_path(load_subtree(initial.checkpoint, sorted(set(initial.filled.values()))).state)
    current = leaves_by_path(state)
    placed: dict[str, jax.Array] = {}
    wrong: list[str] = []
    for place, source in initial.filled.items():
        here, there = _under(current, place), _under(loaded, source)
        wrong += [
            f"{place}/{path}: {_shape(there.get(path))} in the checkpoint, {_shape(here.get(path))} in this config"
            for path in sorted(here.keys() | there.keys())
            if _shape(here.get(path)) != _shape(there.get(path))
        ]
        if not wrong:
            # The step donates its state: two parts that start from the same array must not share its buffer.
            placed |= {f"{place}/{p}": jnp.copy(jax.device_put(there[p], leaf.sharding)) for p, leaf in here.items()}  # type: ignore[union-attr]
    if wrong:
        raise CheckpointMismatch(initial.checkpoint, wrong)
    return jax.tree.unflatten(jax.tree.structure(state), [placed.get(path, leaf) for path, leaf in current.items()])


def _under(table: Mapping[str, Array], place: str) -> dict[str, Array]:
    return {path.removeprefix(f"{place}/"): leaf for path, leaf in table.items() if path.startswith(f"{place}/")}


def _shape(leaf: Array | None) -> str:
    return "absent" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
