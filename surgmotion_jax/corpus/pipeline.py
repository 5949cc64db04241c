"""From sources to a store, step by step. Repeated, it goes on where it stopped; undisturbed or not, it writes the same.

list        the files of all sources                                   recording.py
hash        their contents; exact copies are left out                  recording.py, decide.py
read        each once: frames, what is no surgery, fingerprints        unit.py
judge       each second by a trained head, where one is given          judge.py
match       fingerprints with one another and with benchmarks          matching.py
decide      what is kept, and why the rest is not                      decide.py
write       shards of records, then the manifest                       packing.py
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.decide import Source, copies, decide, faults, kept_seconds, named_parts, shared
from surgmotion_jax.corpus.engine import Engine
from surgmotion_jax.corpus.fingerprint import Fingerprint
from surgmotion_jax.corpus.lists import ListedVideo, write_list
from surgmotion_jax.corpus.losses import Loss, write_losses
from surgmotion_jax.corpus.matching import matches
from surgmotion_jax.corpus.packing import plan, read_entry, stored_cases, write_planned
from surgmotion_jax.corpus.recording import Recording, content_of, recordings
from surgmotion_jax.corpus.unit import Part, Task, Unit, make_unit, read_arrays, read_unit
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.media import DEFAULT_LIMITS
from surgmotion_jax.data.records.manifest import MANIFEST, SHARDS, WORK, Manifest, StoredSet, write_manifest

if TYPE_CHECKING:  # it loads networks, which the processes that read recordings do not need
    from surgmotion_jax.corpus.judge import Judge

LOSSES, FINGERPRINTS, REPORT = "left_out.jsonl", "fingerprints.json", "report.html"


@dataclass(frozen=True)
class Ingested:
    """What an ingestion made."""

    manifest: Manifest
    losses: tuple[Loss, ...]
    units: tuple[tuple[Recording, Unit], ...]


def ingest(
    sources: Mapping[str, SourceConfig],
    out: str,
    config: IngestConfig,
    engine: Engine,
    listed: Sequence[ListedVideo] = (),
    page: Callable[[Ingested], str] | None = None,
    judge: Judge | None = None,
) -> Ingested:
    """Writes a store of what the sources hold, without copies, without what `listed` shows, without what is no surgery.

    `judge` is a head of ours that says what is surgery, beside what is measured.
    `page` makes the report, which is written before the store is finished, as all that belongs to it.

    Raises ValueError where a source names nothing, the folder holds another store, the head does not fit, or nothing is
    left.
    """
    if judge is not None:
        judge.check()
    begin(out)
    work = Path(out) / WORK
    found = contents(recordings(sources, DEFAULT_LIMITS), work, engine)
    originals, losses = copies(found)
    units = read(originals, config, work, engine)
    if judge is not None:
        units = judge.judged(units, work, engine)
    losses += faults([(recording, unit) for recording, _, unit in units])
    parts = [part for recording, content, unit in units for part in sources_of(recording, content, unit, work)]
    prints = [*(video.seconds for video in listed), *(part.seconds for part in parts)]
    kept, left_out = decide(parts, shared(parts, listed, matches(prints)), config)
    losses += left_out
    if not kept:
        lines = "\n".join(loss.text for loss in losses[:20])
        raise ValueError(f"{out}: nothing is left of {len(found)} recordings:\n{lines}")
    shards = plan(kept, [frame_bytes(work, one.part) for one in kept], config.frames, config.shard_mb * 1e6)
    engine.each("shards", partial(write_planned, units=str(work / "units"), out=out), shards)
    manifest = Manifest(
        sets=tuple(_sets(sources, {one.dataset: one.specialty for one in kept})),
        cases=tuple(stored_cases(kept, shards)),
        shards=tuple(read_entry(out, shard) for shard in shards),
        settings=dataclasses.asdict(config) | ({"judge": judge.settings} if judge else {}),
    )
    write_losses(Path(out) / LOSSES, losses)
    write_list(Path(out) / FINGERPRINTS, (ListedVideo("", one) for one in kept_seconds(kept, parts)))
    made = Ingested(manifest, tuple(losses), tuple((recording, unit) for recording, _, unit in units))
    if page is not None:
        storage.write_text_atomic(Path(out) / REPORT, page(made))
    finish(out, manifest)
    return made


def begin(out: str) -> None:
    """Makes the folder. Raises ValueError where it is remote, or a finished store."""
    if not storage.is_local(out):
        raise ValueError(f"{out}: a store is made on a local disk or mount and copied from there; name one by --work")
    if (Path(out) / MANIFEST).exists():
        raise ValueError(f"{out}: holds a finished store; choose another --out, or remove it")
    for folder in (WORK, SHARDS, f"{WORK}/units", f"{WORK}/contents", f"{WORK}/entries"):
        storage.ensure_writable(Path(out) / folder)


def contents(found: Sequence[Recording], work: Path, engine: Engine) -> list[tuple[Recording, str]]:
    """Each recording with the SHA-256 of its content."""
    engine.each("hashed", partial(_note_content, folder=str(work / "contents")), found)
    return [(recording, storage.read_json(_content_path(recording, work / "contents"))) for recording in found]


def read(
    originals: Sequence[tuple[Recording, str]], config: IngestConfig, work: Path, engine: Engine
) -> list[tuple[Recording, str, Unit]]:
    """Each recording with its content and unit."""
    tasks = [Task(recording, content, config) for recording, content in originals]
    units = str(work / "units")
    engine.each("read", partial(make_unit, folder=units), tasks)
    return [(task.recording, task.content, read_unit(units, task.key)) for task in tasks]


def sources_of(recording: Recording, content: str, unit: Unit, work: Path) -> list[Source]:
    """The parts of a unit, with their fingerprints, as its source names them."""
    arrays = [read_arrays(str(work / "units"), part) for part in unit.parts]
    prints = [Fingerprint("", "", found["hash_TxW"], found["strong_T"]) for found in arrays]
    return list(named_parts(recording, content, unit, prints))


def frame_bytes(work: Path, part: Part) -> np.ndarray:
    """Sizes of the frames of a part, int [N]."""
    return read_arrays(str(work / "units"), part)["bytes_N"]


def finish(out: str, manifest: Manifest) -> None:
    """Publishes a store whose shards are written, and removes what it was made from."""
    named = {shard.name for shard in manifest.shards}
    for path in (Path(out) / SHARDS).iterdir():
        if path.name not in named:
            path.unlink()  # of a plan that was given up
    write_manifest(out, manifest)
    shutil.rmtree(Path(out) / WORK)


def _note_content(recording: Recording, folder: str) -> None:
    """Writes the content of a recording down, unless that was done and the file is as it was."""
    path = _content_path(recording, Path(folder))
    if not path.exists():
        storage.write_text_atomic(path, json.dumps(content_of(recording.path)))


def _content_path(recording: Recording, folder: Path) -> Path:
    """Named by the path of a recording, and by its size and time of change where it is a file."""
    path = Path(recording.path)
    state = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else ()
    return folder / f"{hashlib.sha256(repr((recording.path, state)).encode()).hexdigest()[:24]}.json"


def _sets(sources: Mapping[str, SourceConfig], left: Mapping[str, str]) -> list[StoredSet]:
    """The data sets of which something is left, with the specialty that their cases have."""
    return [
        StoredSet(name, left[name], source.licence, source.terms) for name, source in sources.items() if name in left
    ]
