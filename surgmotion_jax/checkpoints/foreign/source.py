"""What a conversion starts from, whatever it is: a release's file, a transformers directory, or weights of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.errors import CheckpointMissing
from surgmotion_jax.checkpoints.foreign.conversion import Plan
from surgmotion_jax.checkpoints.foreign.described import Described, Hints, describe
from surgmotion_jax.checkpoints.foreign.networks import Foreign, read_foreign
from surgmotion_jax.checkpoints.foreign.weight_files import open_weights
from surgmotion_jax.checkpoints.own_weights import describe_own, open_own, read_own
from surgmotion_jax.checkpoints.weights import find_weights

Config = Mapping[str, Any]  # a `config.json`, as plain JSON values


@dataclass(frozen=True)
class Clips:
    """The clips that weights were trained on: side in pixels and number of frames, 0 where it is not known."""

    crop: int = 0
    frames: int = 0


@dataclass(frozen=True)
class Source:
    """What is converted: its networks and architecture, and where it comes from."""

    foreign: Foreign
    described: Described
    name: str
    format: str
    sha256: Callable[[], str]
    clips: Clips = Clips()
    labels: tuple[str, ...] = ()
    origin: Config | None = None

    def record(self, plan: Plan) -> Config:
        """What the result keeps about its source: file, sha256, family, and the fate of every name."""
        origin = {"origin": dict(self.origin)} if self.origin else {}
        return {
            "name": self.name,
            "format": self.format,
            "family": self.foreign.title,
            "sha256": self.sha256(),
            **origin,
            "told": [*self.described.told, *plan.notes],
            "tensors": [entry.to_dict() for entry in plan.entries],
        }


def open_source(path: str, hints: Hints, clips: Clips) -> Source:
    """Opens weights. `hints` and `clips` complete what a release does not say.

    Raises ValueError naming what was found where nothing can be read, or where hints are given to weights of ours.
    """
    try:
        place = find_weights(path)
    except CheckpointMissing:
        return _foreign(path, hints, clips)
    return _own(place, hints, clips)


def _foreign(path: str, hints: Hints, clips: Clips) -> Source:
    """A release's file or directory."""
    file = open_weights(path)
    beside = config_beside(file.path) if file.format == "safetensors" else {}
    foreign = read_foreign(file)
    names = beside.get("id2label", {})
    return Source(
        foreign,
        describe(foreign, hints, beside),
        Path(path).name or path,
        file.format,
        lambda: file.sha256,
        Clips(clips.crop or int(beside.get("crop_size", 0)), clips.frames or int(beside.get("frames_per_clip", 0))),
        tuple(names[key] for key in sorted(names, key=int)) if "probe" in foreign.networks else (),
    )


def config_beside(weights: Path) -> Config:
    """The `config.json` in the folder of a safetensors file, if it is one of transformers' V-JEPA 2."""
    path = weights.parent / "config.json"
    fields = storage.read_json(path) if path.is_file() else {}
    found = fields.get("model_type", "vjepa2") if isinstance(fields, dict) else "no table"
    if found != "vjepa2":
        raise ValueError(f"{path}: model_type is {found!r}; only 'vjepa2' is read.")
    return fields


def _own(place: epath.Path, hints: Hints, clips: Clips) -> Source:
    """A checkpoint of ours. What completes a release's shapes has nothing to add to it."""
    for name in ("heads", "predictor_heads", "probe_heads", "positions"):
        if getattr(hints, name):
            raise ValueError(f"--{name.replace('_', '-')}: {place} says itself what it holds; leave the flag out.")
    checkpoint = open_own(place)
    training = checkpoint.training
    return Source(
        read_own(checkpoint),
        describe_own(checkpoint),
        place.parent.name if place.parent.name != "checkpoints" else f"{place.parent.parent.name} step {place.name}",
        "surgmotion",
        lambda: checkpoint.sha256,
        Clips(clips.crop or training["crop"], clips.frames or training["frames"]),
        checkpoint.labels,
        checkpoint.origin,
    )
