"""The page of an ingestion: what a corpus holds, what was left out and why, and how a run would draw from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from surgmotion_jax.corpus.decide import case_of
from surgmotion_jax.corpus.losses import COPY, LEAK, NEAR_COPY, UNREADABLE, Loss
from surgmotion_jax.corpus.pipeline import Ingested
from surgmotion_jax.corpus.unit import CHUNK, frame_files
from surgmotion_jax.data.mixture import shares
from surgmotion_jax.data.records.jpeg import decode_jpeg
from surgmotion_jax.data.records.manifest import SHARDS, WORK, Manifest
from surgmotion_jax.data.records.record import unpack
from surgmotion_jax.data.records.shard import Shard
from surgmotion_jax.pages.evaluation import rows_table
from surgmotion_jax.report.html import Section, page, sentence
from surgmotion_jax.report.pictures import jpeg_uri, shrink

Table = tuple[Sequence[str], list[Sequence[object]]]
"""A header, and rows below it."""

_EDGES_S = (10, 60, 600, 1800, 3600, 7200)
_SHOWN = 48
_THUMB, _THUMB_BYTES = 160, 8_000
_MOST_ROWS = 500


def corpus_page(out: str, made: Ingested, pictures: bool = False) -> str:
    """One self-contained page.

    With `pictures` it shows a frame of each case and of each stretch that is on a list, so treat it as you treat the
    videos. What was left out for any other reason is never shown.
    """
    manifest = made.manifest
    hours = sum(case.seconds for case in manifest.cases) / 3600
    sections = [
        Section("Data sets", rows_table(*_sets(manifest))),
        Section("Sampling", rows_table(*_sampling(manifest)) + sentence(_RULE)),
        Section("Left out", rows_table(*_reasons(made.losses, hours))),
        Section("Benchmarks in it", _listing(made.losses, (LEAK,), "Nothing of it is on the lists that were given.")),
        Section("Copies", _listing(made.losses, (COPY, NEAR_COPY), "No two recordings share a stretch.")),
        Section("Unreadable", _listing(made.losses, (UNREADABLE,), "Every file could be read.")),
        Section("Lengths and rates", rows_table(*_lengths(made)) + rows_table(*_rates(made))),
    ]
    if pictures:
        leaks = "".join(_leaks(out, made)) or sentence("There is no such stretch.")
        sections += [Section("Pictures", "".join(_sheet(out, manifest))), Section("Pictures of benchmarks", leaks)]
    return page("Corpus", f"{hours:.2f} hours of {len(manifest.cases)} cases", sections, "corpus report")


_RULE = (
    "The paper draws a clip with weight 1 / (N D), N clips in its data set and D data sets in its specialty: each "
    "specialty has the same part of the draws. By hours is what drawing every second alike would give."
)


def _sets(manifest: Manifest) -> Table:
    rows: list[Sequence[object]] = []
    for one in manifest.sets:
        cases = [case for case in manifest.cases if case.dataset == one.name]
        hours, frames = sum(case.seconds for case in cases) / 3600, sum(case.frames for case in cases)
        stated = one.licence or "not declared", one.terms or "not declared"
        rows.append((one.name, one.specialty, len(cases), f"{hours:.2f}", f"{frames:,}", *stated))
    return ("data set", "specialty", "cases", "hours", "frames", "licence", "terms"), rows


def _sampling(manifest: Manifest) -> Table:
    """Part of the draws of each data set by the paper's rule and by hours."""
    seconds: dict[str, float] = defaultdict(float)
    for case in manifest.cases:
        seconds[case.dataset] += case.seconds
    specialty = {one.name: one.specialty for one in manifest.sets}
    by_rule = shares({name: max(1, round(length)) for name, length in seconds.items()}, specialty)
    total = sum(seconds.values())
    rows: list[Sequence[object]] = [
        (name, specialty[name], f"{100 * by_rule[name]:.1f} %", f"{100 * length / total:.1f} %")
        for name, length in seconds.items()
    ]
    return ("data set", "specialty", "part of the draws", "by hours"), rows


def _reasons(losses: Sequence[Loss], hours: float) -> Table:
    rows: list[Sequence[object]] = [("kept", "", f"{hours:.2f}")]
    for reason, count in Counter(loss.reason for loss in losses).most_common():
        lost = sum(loss.seconds for loss in losses if loss.reason == reason) / 3600
        rows.append((reason, count, f"{lost:.2f}"))
    return ("reason", "stretches or files", "hours"), rows


def _listing(losses: Sequence[Loss], reasons: Sequence[str], none: str) -> str:
    found = [loss for loss in losses if loss.reason in reasons]
    more = sentence(f"and {len(found) - _MOST_ROWS} more, see left_out.jsonl") if len(found) > _MOST_ROWS else ""
    rows = [(loss.text, loss.path) for loss in found[:_MOST_ROWS]]
    return rows_table(("what", "file"), rows) + more if found else sentence(none)


def _lengths(made: Ingested) -> Table:
    names = [f"under {edge} s" for edge in _EDGES_S] + [f"{_EDGES_S[-1]} s and more"]

    def class_of(seconds: float) -> str:
        return names[sum(seconds >= edge for edge in _EDGES_S)]

    recorded = Counter(class_of(unit.seconds) for _, unit in made.units if not unit.fault)
    ends = ((stop - start) * float(case.time_base) for case in made.manifest.cases for start, stop in case.stretches)
    kept = Counter(map(class_of, ends))
    return ("length", "recordings", "stretches kept"), [(name, recorded[name], kept[name]) for name in names]


def _rates(made: Ingested) -> Table:
    counted = Counter(round(unit.fps, 2) for _, unit in made.units if not unit.fault)
    return ("frames a second", "recordings"), [(f"{fps:g}", count) for fps, count in sorted(counted.items())]


def _sheet(out: str, manifest: Manifest) -> Iterator[str]:
    """A frame from the middle of each case, of evenly spread ones where there are many."""
    for case in manifest.cases[:: -(-len(manifest.cases) // _SHOWN)]:
        place = case.places[len(case.places) // 2]
        path = Path(out) / SHARDS / manifest.shards[place.shard].name
        record = unpack(str(path), Shard(path).read(place.position))
        yield _image(decode_jpeg(record.frames[0], (case.height, case.width)))


def _leaks(out: str, made: Ingested) -> Iterator[str]:
    """A frame from the middle of each stretch that a list names, while the units are still there."""
    parts = {
        (recording.dataset, case_of(recording, number)): part
        for recording, unit in made.units
        for number, part in enumerate(unit.parts)
    }
    for loss in [loss for loss in made.losses if loss.reason == LEAK][:_SHOWN]:
        part = parts[loss.dataset, loss.case]
        row = min(max(0, round((loss.start_s + loss.end_s) / 2 * part.fps) - part.first), part.frames - 1)
        files = frame_files(Shard(Path(out) / WORK / "units" / part.shard), row // CHUNK)
        yield _image(decode_jpeg(files[row % CHUNK], (part.height, part.width)), loss.text)


def _image(picture_HxWx3: np.ndarray, text: str = "") -> str:
    uri = jpeg_uri(shrink(picture_HxWx3, _THUMB), _THUMB_BYTES)
    return f'<img src="{uri}" width="{_THUMB}" alt="{escape(text)}" title="{escape(text)}">'
