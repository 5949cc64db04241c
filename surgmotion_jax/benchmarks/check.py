"""Looks a data set over before it is used: what is there, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.catalogue import protocol_of
from surgmotion_jax.benchmarks.depth_files import depth_size
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.pixels_seen import PixelsSeen
from surgmotion_jax.benchmarks.same_video import shared_content
from surgmotion_jax.benchmarks.splits import overlaps
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data.findings import findings, image_findings
from surgmotion_jax.data.tfds_source import is_tfds

UNLABELLED_S = 2.0
"""Video that goes on longer than this after the last label is worth a note."""


@dataclass(frozen=True)
class SplitCounts:
    """One row of the table."""

    split: str
    cases: int
    groups: int
    frames: int  # images, or video seconds times its rate
    moments: int  # scored
    classes: Mapping[str, int]  # moments (or positive moments) of each class of the scored label; empty for scores
    shares: Mapping[str, float] = field(default_factory=dict)  # of pixels, for each mask, if frames were decoded


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
    shared, alike = shared_content(contents.cases)
    problems, notes = [*overlaps(contents.cases), *shared], [*_absences(contents), *alike]
    counts = []
    for split in SPLITS:
        cases = contents.cases.get(split, ())
        opened: list[Case] = []
        seen = PixelsSeen()
        for case in cases:
            found = [
                *_label_problems(benchmark, contents, case),
                *_frame_problems(reader, case, seen if decode else None),
            ]
            problems += found
            opened += [] if found else [case]
            notes += [] if found else [*_unlabelled(reader, benchmark, case), *_findings(reader, case)]
        problems += seen.problems(split)
        notes += seen.notes(split)
        counts.append(_count(benchmark, contents, reader, split, cases, opened, seen.shares))
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


def _frame_problems(reader: ClipReader, case: Case, seen: PixelsSeen | None) -> Iterator[str]:
    """Frames that are missing, end before the annotation does, or (where pixels are to be seen) do not decode."""
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
        for path in case.depths:
            if not is_tfds(str(path)):
                depth_size(path)
        if seen is not None:
            for sample in reader.case_samples(case):
                seen.add(sample)
    except ValueError as error:
        yield str(error)


def _findings(reader: ClipReader, case: Case) -> list[str]:
    """What is done about frames that are not stored as they look."""
    info = reader.info(case)
    return [f"{finding.path}: {finding.reason}" for finding in (*findings(info), *image_findings(info))]


def _unlabelled(reader: ClipReader, benchmark: Benchmark, case: Case) -> list[str]:
    left = reader.duration(case) - float(case.times_N[-1])
    if benchmark.family != "workflow" or left <= UNLABELLED_S:
        return []
    return [f"{reader.info(case).path}: the last {left:.0f} s of case {case.id} are not scored"]


def _count(
    benchmark: Benchmark,
    contents: Contents,
    reader: ClipReader,
    split: str,
    cases: Sequence[Case],
    opened: Sequence[Case],
    shares: Mapping[str, float],
) -> SplitCounts:
    labelled = {name for case in cases for name in case.labels}
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
        {} if benchmark.label not in labelled else dict(zip(names, total_C.tolist(), strict=True)),
        shares,
    )


def _frames(reader: ClipReader, case: Case) -> int:
    return round(reader.duration(case) * reader.info(case).fps)
