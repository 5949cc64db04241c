"""Looks a data set over before it is used: what is there, and everything that is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames, VideoFrames
from surgmotion_jax.benchmarks.catalogue import protocol_of
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.splits import overlaps
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data.tfds_source import is_tfds

UNLABELLED_S = 2.0
"""Video that goes on longer than this after the last label is worth a note."""

_SAMPLE_BYTES = 1 << 18
"""Bytes from either end of a file that are compared to find copies."""


@dataclass(frozen=True)
class SplitCounts:
    """One row of the table."""

    split: str
    cases: int
    groups: int
    frames: int  # images, or video seconds times its rate
    moments: int  # scored
    classes: Mapping[str, int]  # moments (or positive moments) of each class of the scored label; empty for scores


@dataclass(frozen=True)
class Findings:
    """What a look at a data set found. It is usable where there are no problems."""

    benchmark: str
    protocol: str
    root: str
    splits: tuple[SplitCounts, ...]
    problems: tuple[str, ...]  # each must be put right
    notes: tuple[str, ...]  # worth knowing


def check(benchmark: Benchmark, root: Path, protocol: str | None = None, decode: bool = False) -> Findings:
    """Reads the annotation, opens every case and counts.

    Args:
        benchmark: the row.
        root: folder of the data set, or `tfds:FOLDER`.
        protocol: one of the row's; the first by default.
        decode: also decode every frame of every window, mask and depth map, which takes as long as it sounds.

    Raises:
        ValueError: a protocol that is not declared. Whatever is wrong with the data is a finding.
    """
    protocol = protocol_of(benchmark, protocol)
    try:
        contents = read_contents(benchmark, root, protocol)
    except ValueError as error:
        return Findings(benchmark.name, protocol, str(root), (), (str(error),), ())
    reader = ClipReader(frames=1, fps=1.0, dataset=benchmark.name)
    problems, notes = list(overlaps(contents.cases)), list(_absences(contents))
    problems += _copies(contents.cases)
    counts = []
    for split in SPLITS:
        cases = contents.cases.get(split, ())
        opened: list[Case] = []
        for case in cases:
            found = [*_label_problems(benchmark, contents, case), *_frame_problems(reader, case, decode)]
            problems += found
            opened += [] if found else [case]
            notes += [] if found else _unlabelled(reader, benchmark, case)
        counts.append(_count(benchmark, contents, reader, split, cases, opened))
    return Findings(benchmark.name, protocol, str(root), tuple(counts), tuple(dict.fromkeys(problems)), tuple(notes))


def _absences(contents: Contents) -> Iterator[str]:
    if contents.absent:
        shown = ", ".join(contents.absent[:8]) + (", ..." if len(contents.absent) > 8 else "")
        yield f"{len(contents.absent)} cases of the official lists are not on disk: {shown}"
    for split in SPLITS:
        if not contents.cases.get(split):
            yield f"no case in {split}"


def _label_problems(benchmark: Benchmark, contents: Contents, case: Case) -> Iterator[str]:
    """A case whose arrays do not fit one another, or whose ids no class bears."""
    where = f"{case.annotation or 'case'} (case {case.id})"
    moments = len(case.times_N)
    if not moments:
        yield f"{where}: no scored moment; remove the case"
    elif case.times_N[0] < 0 or (np.diff(case.times_N) <= 0).any():
        yield f"{where}: scored moments are not ascending; each is scored once"
    sized = {name: len(values) for name, values in case.labels.items()}
    sized |= {name: len(files) for name, files in (("mask", case.masks), ("depth", case.depths)) if files}
    for name, length in sized.items():
        if length != moments:
            yield f"{where}: {length} values of {name} for {moments} scored moments"
    if benchmark.label not in sized:
        yield f"{where}: nothing of {benchmark.label!r}, which this benchmark scores"
    for name, values in case.labels.items():
        if name not in contents.classes or not values.size:
            continue
        known = len(contents.classes[name])
        if values.ndim == 2 and values.shape[1] != known:
            yield f"{where}: {values.shape[1]} columns of {name}, allowed are {known}, one for each class"
        top = known - 1 if values.ndim == 1 else 1
        if values.min() < 0 or values.max() > top:
            yield f"{where}: {name} from {values.min()} to {values.max()}, allowed are 0 to {top}"


def _frame_problems(reader: ClipReader, case: Case, decode: bool) -> Iterator[str]:
    """Frames that are missing, end before the annotation does, or (if asked) do not decode."""
    try:
        if isinstance(case.frames, ImageFrames):
            missing = [path for path in case.frames.paths if not path.is_file()]
            if missing:
                raise BenchmarkError(missing[0], f"{len(missing)} images missing", "every frame", "extract them again")
        if len(case.times_N):
            reader.require_frame(case, float(case.times_N[-1]))
        for path in (*case.masks, *case.depths):
            if not is_tfds(str(path)) and not path.exists():
                raise BenchmarkError(path, "no such file", "an annotation of this moment", "put it there")
        for _ in reader.case_samples(case) if decode else ():
            pass
    except ValueError as error:
        yield str(error)


def _unlabelled(reader: ClipReader, benchmark: Benchmark, case: Case) -> list[str]:
    left = reader.duration(case) - float(case.times_N[-1])
    if benchmark.family != "workflow" or left <= UNLABELLED_S:
        return []
    return [f"{reader.info(case).path}: the last {left:.0f} s of case {case.id} are not scored"]


def _copies(cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """Cases of different splits that show the same video, whatever they are called."""
    seen: dict[tuple[object, ...], tuple[str, Case]] = {}
    problems = []
    for split, members in cases.items():
        for case in members:
            try:
                mark = _fingerprint(case.frames)
            except OSError:
                continue  # a frame that is missing is reported where it is opened
            other, first = seen.setdefault(mark, (split, case))
            if other != split and first.group != case.group:
                problems.append(
                    f"case {case.id!r} in {split} shows the same video as {first.id!r} in {other}; keep one"
                )
    return problems


def _fingerprint(frames: VideoFrames | ImageFrames) -> tuple[object, ...]:
    if isinstance(frames, VideoFrames):
        return (_digest(frames.path), frames.start_s, frames.end_s)
    return (len(frames.paths), _digest(frames.paths[0]), _digest(frames.paths[-1]))


def _digest(path: Path) -> str:
    """Of the size and both ends of a file: enough to tell videos apart, and quick."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        data = file.read(_SAMPLE_BYTES)
        file.seek(max(0, size - _SAMPLE_BYTES))
        return hashlib.sha256(data + file.read() + str(size).encode()).hexdigest()


def _count(
    benchmark: Benchmark,
    contents: Contents,
    reader: ClipReader,
    split: str,
    cases: Sequence[Case],
    opened: Sequence[Case],
) -> SplitCounts:
    names = contents.classes.get(benchmark.label, ())
    total_C = np.zeros(len(names), np.int64)
    for case in opened:
        values = case.labels.get(benchmark.label)
        if names and values is not None:
            total_C += np.bincount(values, minlength=len(names)) if values.ndim == 1 else values.sum(0).astype(np.int64)
    return SplitCounts(
        split,
        len(cases),
        len({case.group for case in cases}),
        sum(_frames(reader, case) for case in opened),
        sum(len(case.times_N) for case in cases),
        dict(zip(names, total_C.tolist(), strict=True)),
    )


def _frames(reader: ClipReader, case: Case) -> int:
    return round(reader.duration(case) * reader.info(case).fps)
