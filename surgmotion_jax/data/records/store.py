"""A finished store, open: records by place, and everything about it that can be found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.data.records.manifest import SHARDS, Manifest, Place, StoredCase, read_manifest
from surgmotion_jax.data.records.record import Record, unpack
from surgmotion_jax.data.records.shard import OpenShards, Shard

_RECORDS_KEPT = 32
"""Records kept per process: a clip reads its frames from one or two, and several threads read at once."""


class Store:
    """A store of records.

    Raises ValueError naming the folder: no store, not finished, or shards of another size than its manifest says.
    """

    def __init__(self, folder: str) -> None:
        if not storage.is_local(folder):
            raise ValueError(
                f"{folder}: records are read from local disks and mounts; mount the bucket, or copy the store here"
            )
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder)
        self._cases = {(case.dataset, case.case): case for case in self.manifest.cases}
        self._open = OpenShards()
        for entry in self.manifest.shards:
            path = self.path(entry.name)
            found = path.stat().st_size if path.is_file() else None
            if found != entry.bytes:
                state = "is not there" if found is None else f"has {found} bytes"
                raise ValueError(
                    f"{path}: the shard {state}, its manifest says {entry.bytes} bytes; copy the store again, or ingest"
                )

    def path(self, shard: str) -> Path:
        """Where a shard lies."""
        return self.folder / SHARDS / shard

    def case(self, dataset: str, name: str) -> StoredCase:
        """Raises ValueError where there is none of that name."""
        if (dataset, name) not in self._cases:
            raise ValueError(f"{self.folder}: no case {name!r} in the data set {dataset!r}")
        return self._cases[dataset, name]

    def record(self, case: StoredCase, place: Place) -> Record:
        """A record of a case. Raises ValueError naming it: damaged, or not what the manifest says it is."""
        path = self.path(self.manifest.shards[place.shard].name)
        record = unpack(f"{path}, record {place.position}", self._open(path).read(place.position))
        found = f"{len(record.frames)} frames of {record.dataset}/{record.case} from tick {record.tick_T[0]}"
        told = f"{place.frames} frames of {case.dataset}/{case.case} from tick {place.first}"
        if found != told or record.time_base != case.time_base:
            raise ValueError(f"{path}, record {place.position}: holds {found}, its manifest says {told}; ingest again")
        return record


@lru_cache(maxsize=64)
def open_store(folder: str) -> Store:
    """The store of a folder, opened once per process."""
    return Store(folder)


@lru_cache(maxsize=_RECORDS_KEPT)
def open_record(folder: str, dataset: str, name: str, number: int) -> Record:
    """Record `number` of a case, kept for the frames after this one."""
    store = open_store(folder)
    case = store.case(dataset, name)
    return store.record(case, case.places[number])


def problems(folder: str) -> Iterator[str]:
    """Everything in a store that is not as its manifest says: every shard's digest and every record are read.

    Raises ValueError where it cannot be opened at all.
    """
    store = Store(folder)
    digests = {entry.name: entry for entry in store.manifest.shards}
    for name, entry in digests.items():
        if storage.sha256_of(store.path(name)) != entry.sha256:
            yield f"{store.path(name)}: its SHA-256 is not the one of the manifest"
        try:
            found = Shard(store.path(name)).records
        except ValueError as error:
            yield str(error)
            continue
        if found != entry.records:
            yield f"{store.path(name)}: holds {found} records, its manifest says {entry.records}"
    for case in store.manifest.cases:
        for place in case.places:
            try:
                store.record(case, place)
            except ValueError as error:
                yield str(error)
