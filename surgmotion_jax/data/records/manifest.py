"""What a store of records holds, in one JSON file that is written last: without it a folder is no store.

  manifest.json   data sets, cases, where each record lies, count and SHA-256 of each shard
  shards/         ArrayRecord files

Letters: R records of a case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

from surgmotion_jax import storage
from surgmotion_jax.data.records.record import SCHEMA_VERSION, Box
from surgmotion_jax.data.records.shard import ShardEntry
from surgmotion_jax.storage import Json

MANIFEST, SHARDS, WORK = "manifest.json", "shards", "work"
KIND = "surgmotion corpus"

T = TypeVar("T")


@dataclass(frozen=True)
class StoredSet:
    """A data set in a store, as its source declared it."""

    name: str
    specialty: str
    licence: str = ""
    terms: str = ""


@dataclass(frozen=True)
class Place:
    """Where a record lies."""

    shard: int  # row in the manifest's shards
    position: int  # in the shard
    first: int  # tick of its first frame
    frames: int


@dataclass(frozen=True)
class StoredCase:
    """A recording in a store: what is left of it, in ticks from its first frame."""

    dataset: str
    case: str
    fps: float  # frames a second, at most
    time_base: Fraction  # seconds per tick
    height: int  # pixels
    width: int
    view: Box  # field of view
    end: int  # tick at which the recording ends
    stretches: tuple[tuple[int, int], ...]  # ticks from and to which it was kept, ascending
    places: tuple[Place, ...]  # R records, ascending in time
    content: str  # SHA-256 of the recording

    @property
    def frames(self) -> int:
        return sum(place.frames for place in self.places)

    @property
    def seconds(self) -> float:
        """Time that was kept."""
        return float(sum(end - start for start, end in self.stretches) * self.time_base)


@dataclass(frozen=True)
class Manifest:
    """A whole store."""

    sets: tuple[StoredSet, ...]
    cases: tuple[StoredCase, ...]
    shards: tuple[ShardEntry, ...]
    settings: Mapping[str, Json]  # what it was made with

    def set_of(self, name: str) -> StoredSet:
        """The data set of a name that a case has."""
        return next(one for one in self.sets if one.name == name)


def write_manifest(folder: storage.PathLike, manifest: Manifest) -> None:
    """Publishes a store whose shards are in place. Raises ValueError where the manifest contradicts itself."""
    _check(str(folder), manifest)
    tree = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "settings": dict(manifest.settings),
        "sets": [_row(one) for one in manifest.sets],
        "shards": [_row(one) for one in manifest.shards],
        "cases": [_row(case) | _packed(case) for case in manifest.cases],
    }
    text = json.dumps(tree, separators=(",", ":"), sort_keys=True)
    storage.write_text_atomic(storage.as_path(folder) / MANIFEST, text + "\n")


def read_manifest(folder: storage.PathLike) -> Manifest:
    """The manifest of a finished store.

    Raises:
        ValueError: no store, one that is not finished, another kind or schema version, or fields that contradict.
    """
    root = storage.as_path(folder)
    path = root / MANIFEST
    if not path.exists():
        state = "it is being written, or that was interrupted: repeat surgmotion data ingest"
        found = state if (root / WORK).exists() else f"it holds no {MANIFEST}"
        raise ValueError(f"{folder}: no store of records: {found}")
    tree = storage.read_json(path)
    if not isinstance(tree, dict) or tree.get("kind") != KIND:
        raise ValueError(f"{path}: found no manifest of a corpus; its kind must be {KIND!r}")
    if tree.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version is {tree.get('schema_version')!r}, this version reads {SCHEMA_VERSION}; ingest "
            "again, or use the version that wrote it"
        )
    try:
        manifest = Manifest(
            sets=tuple(StoredSet(**row) for row in tree["sets"]),
            cases=tuple(_case(row) for row in tree["cases"]),
            shards=tuple(ShardEntry(**row) for row in tree["shards"]),
            settings=tree["settings"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not as it was written ({error}); restore it, or ingest again") from error
    _check(str(path), manifest)
    return manifest


def _row(one: StoredSet | ShardEntry | StoredCase) -> dict[str, Json]:
    """The fields of a flat dataclass."""
    return {field.name: getattr(one, field.name) for field in fields(one)}


def _packed(case: StoredCase) -> dict[str, Json]:
    """The fields of a case that JSON does not know."""
    return {
        "time_base": [case.time_base.numerator, case.time_base.denominator],
        "places": [[place.shard, place.position, place.first, place.frames] for place in case.places],
    }


def _case(row: dict[str, Json]) -> StoredCase:
    changed = {
        "time_base": Fraction(*row["time_base"]),
        "view": tuple(row["view"]),
        "stretches": tuple((start, end) for start, end in row["stretches"]),
        "places": tuple(Place(*place) for place in row["places"]),
    }
    return StoredCase(**{**row, **changed})


def _check(path: str, manifest: Manifest) -> None:
    """Raises ValueError naming the first thing that cannot be."""
    for shard in manifest.shards:
        if "/" in shard.name or "\\" in shard.name or shard.name.startswith("."):
            raise ValueError(
                f"{path}: shard {shard.name!r} leads out of the folder of shards; a shard is named without a folder"
            )
    _unique(path, "shard", [shard.name for shard in manifest.shards])
    _unique(path, "data set", [one.name for one in manifest.sets])
    _unique(path, "case", [(case.dataset, case.case) for case in manifest.cases])
    known = {one.name for one in manifest.sets}
    for case in manifest.cases:
        _check_case(f"{path}: case {case.dataset}/{case.case}", case, known)
    _check_places(path, manifest)


def _check_case(where: str, case: StoredCase, known: set[str]) -> None:
    if case.dataset not in known:
        raise ValueError(f"{where}: its data set is not among {sorted(known)}")
    firsts = [place.first for place in case.places]
    if not firsts or any(after <= before for before, after in pairwise(firsts)):
        raise ValueError(f"{where}: records begin at ticks {firsts[:8]}; they must be some, ascending")
    edges = [tick for stretch in case.stretches for tick in stretch]
    if not edges or edges[0] < 0 or edges[-1] > case.end or any(b < a for a, b in pairwise(edges)):
        raise ValueError(f"{where}: stretches {case.stretches[:4]} must be ascending, within 0 to {case.end}")
    if case.time_base <= 0 or case.fps <= 0 or min(case.height, case.width) < 1:
        found = f"{case.width} x {case.height} pixels, {case.fps} frames/s, ticks of {case.time_base} s"
        raise ValueError(f"{where}: {found}; all must be above 0")


def _check_places(path: str, manifest: Manifest) -> None:
    """Every record of every shard belongs to one case."""
    taken: list[set[int]] = [set() for _ in manifest.shards]
    for case in manifest.cases:
        for place in case.places:
            inside = 0 <= place.shard < len(taken) and 0 <= place.position < manifest.shards[place.shard].records
            if not inside or place.position in taken[place.shard]:
                raise ValueError(
                    f"{path}: case {case.dataset}/{case.case} claims record {place.position} of shard {place.shard}, "
                    "which is not there or another's"
                )
            taken[place.shard].add(place.position)
    for shard, positions in zip(manifest.shards, taken, strict=True):
        if len(positions) != shard.records:
            raise ValueError(f"{path}: shard {shard.name} holds {shard.records} records, {len(positions)} are listed")


def _unique(path: str, what: str, names: Sequence[object]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: {what} {twice!r} is listed more than once")
