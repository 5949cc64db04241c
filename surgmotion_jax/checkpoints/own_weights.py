"""A checkpoint of ours as the source of a conversion: its networks under facebookresearch's names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from etils import epath
from numpy.typing import DTypeLike

from surgmotion_jax.checkpoints.foreign.described import Described, tell_encoder, tell_predictor, tell_probe
from surgmotion_jax.checkpoints.foreign.networks import Foreign
from surgmotion_jax.checkpoints.manifest import LeafEntry, Manifest
from surgmotion_jax.checkpoints.retention import MANIFEST_FILE, MANIFEST_ITEM, read_manifest
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import Array, Nested, leaves_by_path, nest
from surgmotion_jax.models.architecture import model_of
from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.models.name_rules import Deferred
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.models.probe_names import probe_tensors
from surgmotion_jax.models.reference_names import encoder_tensors, predictor_tensors
from surgmotion_jax.storage import Json

Index = int | slice | tuple[int | slice, ...]

# Where each network lies in a checkpoint, of pretraining and of converted weights alike.
PLACES = {
    "target": "target",
    "encoder": "params/encoder",
    "predictor": "params/predictor",
    "probe": "params/probe",
}
LEFT_OUT = {"step": "training record", "opt_state": "optimiser state", "teacher": "frozen teacher"}


@dataclass(frozen=True)
class OwnCheckpoint:
    """One step directory and its manifest."""

    path: epath.Path
    manifest: Manifest

    @property
    def model(self) -> ModelConfig | None:
        """The architecture, None for a probe alone."""
        return model_of(self.manifest.architecture) if self.manifest.architecture else None

    @property
    def probe(self) -> ProbeConfig | None:
        """The probe, if it holds one."""
        if self.manifest.kind == "pretrain":  # whose config has a section of that name, for its monitoring
            return None
        fields = self.manifest.config.get("probe")
        return ProbeConfig(**fields) if fields else None

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that it holds."""
        return tuple(name for name, place in PLACES.items() if self._paths(place))

    @property
    def sha256(self) -> str:
        """Of the manifest, which holds the digest of every array."""
        return hashlib.sha256((self.path / MANIFEST_ITEM / MANIFEST_FILE).read_bytes()).hexdigest()

    @property
    def training(self) -> dict[str, int]:
        """Side and number of frames of the clips that it was trained on, 0 where it does not say."""
        config = self.manifest.config
        crop = config.get("augment", {}).get("crop", 0) if self.manifest.kind == "pretrain" else config.get("crop", 0)
        frames = (
            config.get("data", {}).get("frames", 0) if self.manifest.kind == "pretrain" else config.get("frames", 0)
        )
        return {"crop": int(crop), "frames": int(frames)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the probe's classes, if known."""
        return tuple(self.manifest.config.get("labels", ()))

    @property
    def origin(self) -> dict[str, Json] | None:
        """The file that these weights were once converted from."""
        source = self.manifest.source
        return None if source is None else {name: source[name] for name in ("name", "sha256") if name in source}

    def _paths(self, place: str) -> list[str]:
        return [path for path in self.manifest.tree if path.startswith(f"{place}/")]


def open_own(path: epath.Path) -> OwnCheckpoint:
    """The checkpoint at a path that `find_weights` gave."""
    return OwnCheckpoint(path, read_manifest(path))


def describe_own(checkpoint: OwnCheckpoint) -> Described:
    """What the manifest says about the model, in the words of a release's description."""
    model = checkpoint.model
    heads: dict[str, int] = {}
    told = []
    if model is not None:
        heads = {
            "target": model.encoder.heads,
            "encoder": model.encoder.heads,
            "predictor": model.predictor_trunk.heads,
        }
        told = [tell_encoder(model, "stored"), tell_predictor(model, "stored")]
    probe = checkpoint.probe
    if probe is not None:
        heads["probe"] = probe.heads
        told.append(tell_probe(probe, "stored"))
    return Described(model, heads, tuple(told), probe)


def read_own(checkpoint: OwnCheckpoint) -> Foreign:
    """The networks of a checkpoint of ours; a network is loaded, and verified, when its first tensor is read."""
    model, tree = checkpoint.model, checkpoint.manifest.tree
    networks = {name: _tensors(checkpoint, name, model) for name in checkpoint.networks}
    originals = {path: jax.ShapeDtypeStruct(tuple(e["shape"]), np.dtype(e["dtype"])) for path, e in tree.items()}
    taken = {source for tensors in networks.values() for tensor in tensors.values() for source in tensor.sources}
    ignored = {path: LEFT_OUT.get(path.split("/")[0], "no network's") for path in tree if path not in taken}
    return Foreign("ours", "surgmotion_jax checkpoint", networks, originals, ignored)


def _tensors(checkpoint: OwnCheckpoint, network: str, model: ModelConfig | None) -> Mapping[str, Deferred]:
    place = PLACES[network]
    params = _lazy_tree(checkpoint, place)
    if network == "probe":
        tensors = probe_tensors(params)
    elif network == "predictor":
        tensors = predictor_tensors(params)
    else:
        assert model is not None, "an encoder is stored with its architecture"
        tensors = encoder_tensors(params, model.patch, model.tubelet)
    return {
        name: replace(tensor, sources=tuple(f"{place}/{path}" for path in tensor.sources))
        for name, tensor in tensors.items()
    }


class _LazyLeaf:
    """An array of a checkpoint that is loaded together with its network, at the first use."""

    def __init__(self, entry: LeafEntry, load: Callable[[], np.ndarray]) -> None:
        self.shape, self.dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
        self._load = load

    def __getitem__(self, index: Index) -> np.ndarray:
        return self._load()[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._load(), dtype=dtype, copy=copy)


def _lazy_tree(checkpoint: OwnCheckpoint, place: str) -> Nested:
    loaded: dict[str, Array] = {}

    def load(path: str) -> np.ndarray:
        if not loaded:
            loaded.update(leaves_by_path(load_subtree(checkpoint.path, [place]).state))
        return np.asarray(loaded[path])

    leaves = {path: _LazyLeaf(e, partial(load, path)) for path, e in checkpoint.manifest.tree.items()}
    return nest({p.removeprefix(f"{place}/"): leaf for p, leaf in leaves.items() if p.startswith(f"{place}/")})
