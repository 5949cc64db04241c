"""A shard: an ArrayRecord file of records, written whole or not at all, and read at random.

array_record reads and writes local files. Each record is a group of its own, and uncompressed, since JPEG files are
compressed: a read costs the record's bytes, and damage costs that record.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from surgmotion_jax import storage

SUFFIX = ".arrayrecord"
_WRITE = "group_size:1,uncompressed,max_parallelism:1"
_READ = "readahead_buffer_size:0,max_parallelism:0"
_OPEN_AT_ONCE = 64
"""Shards that a process keeps open; each holds a file handle and its table of contents."""


@dataclass(frozen=True)
class ShardEntry:
    """What a manifest says of one shard."""

    name: str  # of the file, in the folder of shards
    bytes: int
    records: int
    sha256: str


def write_shard(path: Path, records: Iterable[bytes]) -> ShardEntry:
    """Writes a shard beside its place, reads it back, and renames it. Raises ValueError where it reads otherwise."""
    with storage.Draft(path, SUFFIX) as temporary:
        writer = ArrayRecordWriter(str(temporary), _WRITE)
        written = []
        try:
            for record in records:
                writer.write(record)
                written.append(hash(record))
        finally:
            writer.close()
        shard = Shard(temporary)
        for position, told in enumerate(written):
            if hash(shard.read(position)) != told:
                raise ValueError(f"{path}: record {position} reads back as it was not written; check the disk")
        if shard.records != len(written):
            raise ValueError(f"{path}: {shard.records} records read back, {len(written)} were written; check the disk")
        entry = ShardEntry(path.name, temporary.stat().st_size, shard.records, storage.sha256_of(temporary))
    return entry


class Shard:
    """An open shard. Threads may share it.

    Raises ValueError naming the file where it cannot be opened, as one that is cut short cannot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = ArrayRecordReader(str(path), _READ)
            self.records: int = self._reader.num_records()
        except Exception as error:  # array_record raises whichever of several kinds, depending on what is wrong
            raise ValueError(f"{path}: cannot be opened as a shard: {_first_line(error)}") from error

    def read(self, position: int) -> bytes:
        """The bytes of one record. Raises ValueError naming it where it is not there or damaged."""
        if not 0 <= position < self.records:
            raise ValueError(f"{self.path}: no record {position}; it holds {self.records}")
        try:
            (record,) = self._reader.read([position])
        except Exception as error:  # as above
            raise ValueError(f"{self.path}, record {position}: cannot be read: {_first_line(error)}") from error
        return record


class OpenShards:
    """Shards by path, of which the ones used last stay open. A copy for another process starts empty."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Shard] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> Shard:
        with self._lock:
            if path not in self._open:
                self._open[path] = Shard(path)
            self._open.move_to_end(path)
            while len(self._open) > _OPEN_AT_ONCE:
                self._open.popitem(last=False)
            return self._open[path]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
