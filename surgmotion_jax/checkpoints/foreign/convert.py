"""A conversion from its source to the files written: prepared and told first, then written whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.finite import check_finite
from surgmotion_jax.checkpoints.foreign.conversion import Plan, choose_encoder, plan_ours, plan_transformers
from surgmotion_jax.checkpoints.foreign.described import probe_fields
from surgmotion_jax.checkpoints.foreign.networks import Foreign
from surgmotion_jax.checkpoints.foreign.source import Config, Source
from surgmotion_jax.checkpoints.foreign.transformers_directory import (
    Training,
    model_card,
    write_directory,
)
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.tree import nest
from surgmotion_jax.checkpoints.weights import save_weights
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.name_rules import Deferred

FORMATS = ("surgmotion", "transformers")
PROGRESS_EVERY = 5.0  # seconds


@dataclass(frozen=True)
class Conversion:
    """What will be written of a source: the plan, and for transformers the fields of its `config.json`."""

    source: Source
    form: str  # one of FORMATS
    plan: Plan
    fields: Config


def refuse_existing(destination: str) -> None:
    """Raises ValueError for a destination that exists or is not a local path."""
    if not storage.is_local(destination):
        raise ValueError(f"{destination}: weights are converted to a local directory; copy it there afterwards.")
    if storage.as_path(destination).exists():
        raise ValueError(f"{destination}: exists already and is not overwritten; choose another name, or delete it.")


def prepare(source: Source, form: str, weights: str = "") -> Conversion:
    """Plans a conversion to one of FORMATS. `weights` keeps one encoder only, `target` or `online`.

    Raises ValueError for whatever cannot be converted.
    """
    foreign, notes = choose_encoder(source.foreign, weights, one=form == "transformers")
    source = replace(source, foreign=foreign)
    fields: Config = {}
    if form == "transformers":
        clips = source.clips
        training = Training(clips.crop or Training.crop, clips.frames or Training.frames)
        if not (clips.crop and clips.frames):
            notes += (f"trained on {training.frames} frames of {training.crop} pixels (assumed; --frames, --crop)",)
        plan, fields = plan_transformers(foreign, source.described, training, source.labels)
    else:
        plan = plan_ours(foreign, source.described)
    plan = replace(plan, notes=(*notes, *dtype_notes(foreign), *plan.notes))
    return Conversion(source, form, plan, fields)


def dtype_notes(foreign: Foreign) -> tuple[str, ...]:
    """Says that other dtypes than float32 are stored as float32."""
    counts = foreign.dtypes()
    return tuple(
        f"{count} tensors of {name} are stored as float32" for name, count in counts.items() if name != "float32"
    )


def write(conversion: Conversion, destination: str, say: Callable[[str], None] = lambda text: None) -> None:
    """Reads the source, tensor by tensor, and writes the result. `say` is told every few seconds how far it is.

    Raises ValueError, with nothing written, for a tensor that is not finite.
    """
    plan = with_progress(sound(conversion.plan, conversion.source.name), say)
    (write_transformers if conversion.form == "transformers" else write_ours)(destination, conversion, plan)


def sound(plan: Plan, where: str) -> Plan:
    """The plan, refusing arrays that are not finite when they are read."""

    def checked(place: str, array: Deferred) -> Deferred:
        def read() -> np.ndarray:
            value = array.read()
            _check(where, place, array.sources, value)
            return value

        return replace(array, read=read)

    return replace(plan, arrays={place: checked(place, array) for place, array in plan.arrays.items()})


def _check(where: str, place: str, sources: tuple[str, ...], value: np.ndarray) -> None:
    """Names the tensor of the source: where one is stacked from several, the one that is not finite."""
    if len(sources) > 1 and value.ndim and len(sources) == len(value):
        for name, part in zip(sources, value, strict=True):
            check_finite(where, name, part)
    else:
        check_finite(where, ", ".join(sources) or place, value)


def with_progress(plan: Plan, say: Callable[[str], None]) -> Plan:
    """The plan, telling every few seconds how much of it has been read."""
    total, done, last = max(plan.nbytes, 1), 0, time.monotonic()

    def counted(array: Deferred) -> Deferred:
        def read() -> np.ndarray:
            nonlocal done, last
            value = array.read()
            done += value.nbytes
            if time.monotonic() - last > PROGRESS_EVERY:
                last = time.monotonic()
                say(f"{100 * done / total:.0f} % of {total / 1e9:.3f} GB")
            return value

        return replace(array, read=read)

    return replace(plan, arrays={place: counted(array) for place, array in plan.arrays.items()})


def write_ours(destination: str, conversion: Conversion, plan: Plan) -> None:
    """An Orbax checkpoint with the accounting in its manifest."""
    source = conversion.source
    model, probe = source.described.model, source.described.probe
    known = {"crop": source.clips.crop, "frames": source.clips.frames, "labels": list(source.labels)}
    config: dict[str, object] = {name: value for name, value in known.items() if value}
    if probe:
        config["probe"] = probe_fields(probe)
    fields = ManifestFields("weights", architecture(model) if model else {}, config, source.record(plan))
    save_weights(destination, nest(plan.arrays), fields)


def write_transformers(destination: str, conversion: Conversion, plan: Plan) -> None:
    """A directory for `from_pretrained`, with the accounting beside the weights."""
    record, fields = conversion.source.record(plan), conversion.fields
    with storage.Draft(destination) as folder:
        folder.mkdir()
        write_directory(folder, plan.arrays, fields, model_card(fields, record, plan.notes))
        storage.write_text_atomic(folder / "conversion.json", json.dumps(record, indent=1))
