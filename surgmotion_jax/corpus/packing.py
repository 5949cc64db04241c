"""Frames of units into the shards of a store: which frame goes where is decided first, then each shard is written.

A shard is named by the plan, so that a plan that changed never mixes with what an earlier one left.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.corpus.unit import CHUNK, Part, frame_files
from surgmotion_jax.data.records.manifest import SHARDS, WORK, Place, StoredCase
from surgmotion_jax.data.records.record import Record, pack
from surgmotion_jax.data.records.shard import SUFFIX, OpenShards, ShardEntry, write_shard


@dataclass(frozen=True)
class Kept:
    """A case and what is kept of it."""

    dataset: str
    case: str
    specialty: str
    content: str
    part: Part
    stretches: tuple[tuple[int, int], ...]  # frame numbers from and to, ascending


@dataclass(frozen=True)
class Slice:
    """A record to write: frames [start, stop) of a case."""

    kept: Kept
    start: int
    stop: int


@dataclass(frozen=True)
class PlannedShard:
    """A shard to write."""

    name: str
    slices: tuple[Slice, ...]


def plan(kept: Sequence[Kept], bytes_of: Sequence[np.ndarray], frames: int, shard_bytes: float) -> list[PlannedShard]:
    """Records of up to `frames` frames, in order, in shards that are closed once they hold `shard_bytes`.

    `bytes_of` each case are the sizes of its frames, all of them, from the first that was stored.
    """
    shards: list[list[Slice]] = [[]]
    held = 0
    for case, size_N in zip(kept, bytes_of, strict=True):
        for piece in _slices(case, frames):
            if held >= shard_bytes:
                shards.append([])
                held = 0
            shards[-1].append(piece)
            held += int(size_N[piece.start - case.part.first : piece.stop - case.part.first].sum())
    digest = _digest(kept, shards)
    return [
        PlannedShard(f"{_plain(slices[0].kept.dataset)}-{digest}-{number:05d}{SUFFIX}", tuple(slices))
        for number, slices in enumerate(shards)
        if slices
    ]


def write_planned(shard: PlannedShard, units: str, out: str) -> None:
    """Writes a shard and what the manifest will say of it, unless that was done."""
    done = _entry_path(out, shard.name)
    if done.exists():
        return
    opened = OpenShards()
    records = (pack(record_of(piece, units, opened)) for piece in shard.slices)
    entry = write_shard(Path(out) / SHARDS / shard.name, records)
    storage.write_text_atomic(done, json.dumps(dataclasses.asdict(entry)))


def read_entry(out: str, shard: PlannedShard) -> ShardEntry:
    """What is to be said of a shard that was written."""
    return ShardEntry(**storage.read_json(_entry_path(out, shard.name)))


def record_of(piece: Slice, units: str, opened: OpenShards) -> Record:
    """A record under the names that its source gives it."""
    kept, part = piece.kept, piece.kept.part
    shard = opened(Path(units) / part.shard)
    files: list[bytes] = []
    for number in range((piece.start - part.first) // CHUNK, (piece.stop - 1 - part.first) // CHUNK + 1):
        files += frame_files(shard, number)
    skipped = (piece.start - part.first) % CHUNK
    return Record(
        kept.dataset,
        kept.case,
        kept.specialty,
        part.time_base,
        np.arange(piece.start, piece.stop),
        piece.stop,
        part.box,
        tuple(files[skipped : skipped + piece.stop - piece.start]),
    )


def stored_cases(kept: Sequence[Kept], shards: Sequence[PlannedShard]) -> list[StoredCase]:
    """What the manifest says of each case."""
    places: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for number, shard in enumerate(shards):
        for position, piece in enumerate(shard.slices):
            place = Place(number, position, piece.start, piece.stop - piece.start)
            places[piece.kept.dataset, piece.kept.case].append(place)
    return [_stored(case, tuple(places[case.dataset, case.case])) for case in kept]


def _stored(kept: Kept, places: tuple[Place, ...]) -> StoredCase:
    part = kept.part
    return StoredCase(
        kept.dataset,
        kept.case,
        part.fps,
        part.time_base,
        part.height,
        part.width,
        part.box,
        part.end,
        kept.stretches,
        places,
        kept.content,
    )


def _slices(case: Kept, frames: int) -> Iterator[Slice]:
    for start, stop in case.stretches:
        for first in range(start, stop, frames):
            yield Slice(case, first, min(first + frames, stop))


def _digest(kept: Sequence[Kept], shards: Sequence[Sequence[Slice]]) -> str:
    """Of all that a shard's bytes follow from."""
    told = [[case.dataset, case.case, case.specialty, case.content, dataclasses.asdict(case.part)] for case in kept]
    cut = [[(piece.kept.dataset, piece.kept.case, piece.start, piece.stop) for piece in slices] for slices in shards]
    return hashlib.sha256(json.dumps([told, cut]).encode()).hexdigest()[:8]


def _plain(name: str) -> str:
    """A data set's name as a part of a file's."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)[:40]


def _entry_path(out: str, name: str) -> Path:
    return Path(out) / WORK / "entries" / f"{name}.json"
