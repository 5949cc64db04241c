"""Reads the weights that a path names: a run's checkpoint, converted weights, or fresh random ones."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.finite import check_all_finite
from surgmotion_jax.checkpoints.manifest import Manifest
from surgmotion_jax.checkpoints.retention import read_manifest
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.checks import one_of
from surgmotion_jax.models.architecture import model_of
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import VARIANTS, ModelConfig
from surgmotion_jax.models.parameters import Params

PREFIXES = {"target": "target", "online": "params/encoder", "predictor": "params/predictor"}
RANDOM = "random:"


@dataclass(frozen=True)
class Origin:
    """Which weights these are: enough to tell two sets apart, and to find one again."""

    name: str  # of the workdir or folder, or random:VARIANT[/PATCH]:SEED
    weights: tuple[str, ...]  # those loaded, of target, online, predictor
    step: int  # training steps behind them
    digest: str  # sha256 over the digests of all leaves: equal bits, equal digest
    path: str = field(default="", compare=False)  # where they were read, or random:VARIANT[/PATCH]:SEED


@dataclass(frozen=True)
class Weights:
    """Parameters by name, with their architecture."""

    params: dict[str, Params]
    config: ModelConfig
    origin: Origin


def read_weights(path: storage.PathLike, names: Sequence[str], sharding: jax.sharding.Sharding) -> Weights:
    """Loads `names` (of target, online, predictor), verified by digest, onto the sharding.

    Raises ValueError for a name or path without weights, for damaged files, and for weights that are not finite.
    """
    for name in names:
        one_of("weights", name, tuple(PREFIXES))
    if os.fspath(path).startswith(RANDOM):
        return _random(os.fspath(path), names, sharding)
    return _stored(path, names, sharding)


def _stored(path: storage.PathLike, names: Sequence[str], sharding: jax.sharding.Sharding) -> Weights:
    place = find_weights(path)
    manifest = read_manifest(place)
    taken = {name: _present(name, manifest, place) for name in names}
    # Through host memory: digests of host arrays need one small program a shape, whatever the devices.
    loaded = load_subtree(place, [PREFIXES[part] for part in taken.values()])
    check_all_finite(str(place), {path: np.asarray(leaf) for path, leaf in leaves_by_path(loaded.state).items()})
    params = {name: jax.device_put(_at(loaded.state, PREFIXES[part]), sharding) for name, part in taken.items()}
    prefixes = tuple(f"{PREFIXES[part]}/" for part in taken.values())
    table = {leaf: entry["digest"] for leaf, entry in loaded.manifest.tree.items() if leaf.startswith(prefixes)}
    folder = place.parent.parent if place.parent.name == "checkpoints" else place.parent
    origin = Origin(folder.name, tuple(taken.values()), loaded.step, _digest(table), _absolute(path))
    return Weights(params, model_of(manifest.architecture), origin)


def _present(name: str, manifest: Manifest, place: epath.Path) -> str:
    """The name itself where the checkpoint has it. One with a single encoder gives that for either name.

    So do converted weights, and runs that keep no moving average.
    """
    held = [part for part, prefix in PREFIXES.items() if any(p.startswith(f"{prefix}/") for p in manifest.tree)]
    encoders = [part for part in held if part != "predictor"]
    if name not in held and name != "predictor" and len(encoders) == 1:
        return encoders[0]
    if name not in held:
        pixels = any(path.startswith("params/decoder/") for path in manifest.tree)
        why = "; it was trained to predict pixels, by a decoder: use load_encoder" if pixels else ""
        raise ValueError(f"{place}: has no {name} weights; it holds {', '.join(held) or 'none of the encoder'}{why}")
    return name


def _random(name: str, names: Sequence[str], sharding: jax.sharding.Sharding) -> Weights:
    """Fresh parameters, the same for a seed everywhere; online and target are equal, as when training begins."""
    told = re.fullmatch(r"(?P<variant>\w+)(/(?P<patch>[1-9]\d*))?(:(?P<seed>\d*))?", name.removeprefix(RANDOM))
    if told is None or told["variant"] not in VARIANTS:
        raise ValueError(
            f"{name!r}: random weights are named random:VARIANT, random:VARIANT/PATCH (pixels; 16 otherwise) or "
            f"random:VARIANT:SEED, in that order, with one of {', '.join(VARIANTS)} as the variant"
        )
    patch, number = int(told["patch"] or ModelConfig.patch), int(told["seed"] or 0)
    config = ModelConfig(variant=told["variant"], patch=patch)
    backbone = backbone_of(config)
    encoder_key, predictor_key = jax.random.split(jax.random.key(number))
    keys = {"target": encoder_key, "online": encoder_key, "predictor": predictor_key}
    params = {}
    for part in names:
        init = backbone.predictor.init if part == "predictor" else backbone.init
        # Made once and copied: each device would otherwise make its own.
        params[part] = jax.device_put(jax.jit(init)(keys[part]), sharding)
    table = {
        path: hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for path, leaf in leaves_by_path(params).items()
    }
    size = f"/{patch}" if told["patch"] else ""
    name = f"{RANDOM}{config.variant}{size}:{number}"
    return Weights(params, config, Origin(name, tuple(names), 0, _digest(table), name))


def _absolute(path: storage.PathLike) -> str:
    return os.path.abspath(path) if storage.is_local(path) else os.fspath(path)


def _digest(table: Mapping[str, str]) -> str:
    lines = "\n".join(f"{path} {table[path]}" for path in sorted(table))
    return hashlib.sha256(lines.encode()).hexdigest()


def _at(tree: Params, path: str) -> Params:
    for name in path.split("/"):
        tree = tree[name]
    return tree
