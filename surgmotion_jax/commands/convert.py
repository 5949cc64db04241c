"""`surgmotion convert SRC DST [--to=surgmotion|transformers] [--weights=target|online] [--dry-run] ...`

Reads released or own weights and writes them in our format, or as a directory that transformers loads.

  SRC   a .pt file (V-JEPA 2, V-JEPA 2.1, SurgMotion, an attentive probe), a safetensors file, a transformers directory,
        or a workdir, checkpoint or converted directory of ours
  DST   a directory that does not exist yet

No pickle is executed. What became of every name of the source is printed and stored.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgmotion_jax.checkpoints.foreign.conversion import Plan
    from surgmotion_jax.checkpoints.foreign.described import Described
    from surgmotion_jax.checkpoints.foreign.networks import Foreign
    from surgmotion_jax.models.name_rules import Deferred

FORMATS = ("surgmotion", "transformers")
PROGRESS_EVERY = 5.0  # seconds


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    convert(given)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from surgmotion_jax.models.config import POSITIONS

    p = argparse.ArgumentParser(
        prog="surgmotion convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("source", metavar="SRC", help="weights to read")
    p.add_argument("destination", metavar="DST", help="directory to write; must not exist")
    p.add_argument("--to", choices=FORMATS, default="surgmotion", help="format to write (default: surgmotion)")
    p.add_argument(
        "--weights",
        choices=("target", "online"),
        help="keep one encoder only: the moving average (target; what transformers gets by default) or the online one",
    )
    p.add_argument("--dry-run", action="store_true", help="check and print everything, write nothing")
    p.add_argument("--heads", type=int, default=0, help="attention heads, where shapes and tables do not tell")
    p.add_argument("--predictor-heads", type=int, default=0, help="the predictor's heads, likewise")
    p.add_argument("--probe-heads", type=int, default=0, help="the probe's heads (default: 16, or the config's)")
    p.add_argument("--positions", choices=POSITIONS, default="", help="position code, where it is not the release's")
    p.add_argument("--crop", type=int, default=0, help="side in pixels of the clips that the weights were trained on")
    p.add_argument("--frames", type=int, default=0, help="their number of frames")
    return p


@dataclass(frozen=True)
class Source:
    """What is converted: its networks and architecture, and where it comes from."""

    foreign: Foreign
    described: Described
    name: str
    format: str
    sha256: Callable[[], str]
    crop: int = 0
    frames: int = 0
    labels: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None

    def record(self, plan: Plan) -> dict[str, Any]:
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


def convert(given: argparse.Namespace) -> None:
    """Reads, checks, prints, writes. Raises ValueError, with nothing written, for whatever cannot be converted."""
    from surgmotion_jax.checkpoints.foreign import accounting
    from surgmotion_jax.checkpoints.foreign.conversion import choose_encoder, plan_ours, plan_transformers
    from surgmotion_jax.checkpoints.foreign.transformers_directory import Training

    refuse_existing(given.destination)
    source = open_source(given)
    say("source", f"{given.source}: {source.foreign.title} ({source.format})")
    for line in source.described.told:
        say(*line.split(": ", 1))
    foreign, notes = choose_encoder(source.foreign, given.weights or "", one=given.to == "transformers")
    source = replace(source, foreign=foreign)
    fields: dict[str, Any] = {}
    if given.to == "transformers":
        training = Training(source.crop or Training.crop, source.frames or Training.frames)
        if not (source.crop and source.frames):
            notes += (f"trained on {training.frames} frames of {training.crop} pixels (assumed; --frames, --crop)",)
        plan, fields = plan_transformers(foreign, source.described, training, source.labels)
    else:
        plan = plan_ours(foreign, source.described)
    plan = replace(plan, notes=(*notes, *dtype_notes(foreign), *plan.notes))
    for note in plan.notes:
        say("note", note)
    say("accounting", accounting.summary(plan.entries))
    print(*(f"  {line}" for line in accounting.table(plan.entries)), sep="\n", flush=True)
    say("sha256", source.sha256())
    if given.dry_run:
        say("dry run", f"{plan.nbytes / 1e9:.3f} GB would be written to {given.destination}")
        return
    started = time.monotonic()
    write = write_transformers if given.to == "transformers" else write_ours
    write(given.destination, source, with_progress(plan), fields)
    say("written", f"{given.destination}: {plan.nbytes / 1e9:.3f} GB in {time.monotonic() - started:.1f} s")


def say(label: str, text: str) -> None:
    print(f"{label:>12}  {text}", flush=True)


def refuse_existing(destination: str) -> None:
    """Raises ValueError for a destination that exists or is not a local path."""
    from surgmotion_jax import storage

    if not storage.is_local(destination):
        raise ValueError(f"{destination}: weights are converted to a local directory; copy it there afterwards.")
    if storage.as_path(destination).exists():
        raise ValueError(f"{destination}: exists already and is not overwritten; choose another name, or delete it.")


def open_source(given: argparse.Namespace) -> Source:
    """Opens SRC, whatever it is. Raises ValueError naming what was found where nothing can be read."""
    from surgmotion_jax.checkpoints.errors import CheckpointMissing
    from surgmotion_jax.checkpoints.weights import find_weights

    try:
        place = find_weights(given.source)
    except CheckpointMissing:
        return open_foreign(given)
    return open_own(given, place)


def open_foreign(given: argparse.Namespace) -> Source:
    """A release's file or directory."""
    from surgmotion_jax.checkpoints.foreign.described import Hints, describe
    from surgmotion_jax.checkpoints.foreign.networks import read_foreign
    from surgmotion_jax.checkpoints.foreign.weight_files import open_weights

    file = open_weights(given.source)
    beside = config_beside(file.path) if file.format == "safetensors" else {}
    foreign = read_foreign(file)
    hints = Hints(given.heads, given.predictor_heads, given.probe_heads, given.positions)
    names = beside.get("id2label", {})
    return Source(
        foreign,
        describe(foreign, hints, beside),
        Path(given.source).name or str(given.source),
        file.format,
        lambda: file.sha256,
        given.crop or int(beside.get("crop_size", 0)),
        given.frames or int(beside.get("frames_per_clip", 0)),
        tuple(names[key] for key in sorted(names, key=int)) if "probe" in foreign.networks else (),
    )


def config_beside(weights: Path) -> Mapping[str, Any]:
    """The `config.json` in the folder of a safetensors file, if it is one of transformers' V-JEPA 2."""
    from surgmotion_jax import storage

    path = weights.parent / "config.json"
    fields = storage.read_json(path) if path.is_file() else {}
    found = fields.get("model_type", "vjepa2") if isinstance(fields, dict) else "no table"
    if found != "vjepa2":
        raise ValueError(f"{path}: model_type is {found!r}; only 'vjepa2' is read.")
    return fields


def open_own(given: argparse.Namespace, place: Any) -> Source:
    """A checkpoint of ours. The flags that complete a release's shapes have nothing to add to it."""
    from surgmotion_jax.checkpoints.own_weights import describe_own, open_own, read_own

    for flag in ("heads", "predictor_heads", "probe_heads", "positions"):
        if getattr(given, flag):
            raise ValueError(f"--{flag.replace('_', '-')}: {place} says itself what it holds; leave the flag out.")
    checkpoint = open_own(place)
    training = checkpoint.training
    return Source(
        read_own(checkpoint),
        describe_own(checkpoint),
        place.parent.name if place.parent.name != "checkpoints" else f"{place.parent.parent.name} step {place.name}",
        "surgmotion",
        lambda: checkpoint.sha256,
        given.crop or training["crop"],
        given.frames or training["frames"],
        checkpoint.labels,
        checkpoint.origin,
    )


def dtype_notes(foreign: Foreign) -> tuple[str, ...]:
    """Says that other dtypes than float32 are stored as float32."""
    counts = foreign.dtypes()
    return tuple(
        f"{count} tensors of {name} are stored as float32" for name, count in counts.items() if name != "float32"
    )


def with_progress(plan: Plan) -> Plan:
    """The plan, telling every few seconds how much of it has been read."""
    total, done, last = max(plan.nbytes, 1), 0, time.monotonic()

    def counted(array: Deferred) -> Deferred:
        def read() -> Any:
            nonlocal done, last
            value = array.read()
            done += value.nbytes
            if time.monotonic() - last > PROGRESS_EVERY:
                last = time.monotonic()
                say("converting", f"{100 * done / total:.0f} % of {total / 1e9:.3f} GB")
            return value

        return replace(array, read=read)

    return replace(plan, arrays={place: counted(array) for place, array in plan.arrays.items()})


def write_ours(destination: str, source: Source, plan: Plan, _: Mapping[str, Any]) -> None:
    """An Orbax checkpoint with the accounting in its manifest."""
    from surgmotion_jax.checkpoints.foreign.described import probe_fields
    from surgmotion_jax.checkpoints.manifest import ManifestFields
    from surgmotion_jax.checkpoints.tree import nest
    from surgmotion_jax.checkpoints.weights import save_weights
    from surgmotion_jax.models.architecture import architecture

    model = source.described.model
    known = {"crop": source.crop, "frames": source.frames, "labels": list(source.labels)}
    config: dict[str, Any] = {name: value for name, value in known.items() if value}
    if source.described.probe:
        config["probe"] = probe_fields(source.described.probe)
    fields = ManifestFields("weights", architecture(model) if model else {}, config, source.record(plan))
    save_weights(destination, nest(plan.arrays), fields)


def write_transformers(destination: str, source: Source, plan: Plan, fields: Mapping[str, Any]) -> None:
    """A directory for `from_pretrained`, with the accounting beside the weights."""
    from surgmotion_jax import storage
    from surgmotion_jax.checkpoints.foreign.transformers_directory import model_card, whole_directory, write_directory

    record = source.record(plan)
    with whole_directory(destination) as folder:
        write_directory(folder, plan.arrays, fields, model_card(fields, record, plan.notes))
        storage.write_text_atomic(folder / "conversion.json", json.dumps(record, indent=1))
