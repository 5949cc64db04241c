"""Stores of records, made without the pipeline: from JPEG files that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from surgmotion_jax.data.records.manifest import SHARDS, Manifest, Place, StoredCase, StoredSet, write_manifest
from surgmotion_jax.data.records.record import Record, pack
from surgmotion_jax.data.records.shard import write_shard


def files(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_store(
    folder: Path, cases: Mapping[str, Sequence[bytes]], size: tuple[int, int], fps: float = 4.0, frames: int = 5
) -> Path:
    """One data set `x` of specialty `knee`: a case of JPEG files each, in a shard each."""
    base = 1 / Fraction(fps).limit_denominator(1_000_000)
    stored, shards = [], []
    for row, (name, files) in enumerate(cases.items()):
        starts = range(0, len(files), frames)
        records = [
            Record("x", name, "knee", base, np.arange(s, s + len(part)), s + len(part), (0, 0, *size), tuple(part))
            for s in starts
            for part in [files[s : s + frames]]
        ]
        shards.append(write_shard(folder / SHARDS / f"x-{row:05d}.arrayrecord", map(pack, records)))
        places = tuple(Place(row, n, int(r.tick_T[0]), len(r.frames)) for n, r in enumerate(records))
        whole = ((0, len(files)),)
        stored.append(StoredCase("x", name, fps, base, *size, (0, 0, *size), len(files), whole, places, "0" * 64))
    sets = (StoredSet("x", "knee", "CC BY 4.0"),)
    write_manifest(folder, Manifest(sets, tuple(stored), tuple(shards), {"fps": fps}))
    return folder
