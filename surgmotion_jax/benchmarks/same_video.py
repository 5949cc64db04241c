"""The same video under two names, and stretches of one video that overlap: by content, whatever files are called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames, VideoFrames

_SAMPLE_BYTES = 1 << 18
"""Bytes from either end of a file that are compared to find copies."""

Mark = tuple[object, ...]


@dataclass(frozen=True)
class Stretch:
    """A case, and which part of which content it shows."""

    split: str
    case: Case
    start_s: float
    end_s: float

    @property
    def name(self) -> str:
        return f"case {self.case.id!r} in {self.split}"


def shared_content(cases: Mapping[str, Sequence[Case]]) -> tuple[list[str], list[str]]:
    """(problems, notes) about cases that show the same seconds of the same video.

    It is a problem where they stand in different splits, unless their group says so already, and worth a note where
    they stand in one. A case whose frames are missing is left out: that is reported where it is opened.
    """
    problems, notes = [], []
    for stretches in _by_content(cases).values():
        for first, second in _overlapping(stretches):
            same = (first.start_s, first.end_s) == (second.start_s, second.end_s)
            how = "shows the same video as" if same else f"shares {_shared(first, second)} of video with"
            text = f"{second.name} {how} {first.name.removeprefix('case ')}"
            if first.split == second.split:
                notes.append(text)
            elif first.case.group != second.case.group:
                problems.append(f"{text}; keep one")
    return problems, notes


def _by_content(cases: Mapping[str, Sequence[Case]]) -> dict[Mark, list[Stretch]]:
    digests: dict[Path, str] = {}
    found: dict[Mark, list[Stretch]] = {}
    for split, members in cases.items():
        for case in members:
            try:
                mark, start, end = _content(case.frames, digests)
            except OSError:
                continue
            found.setdefault(mark, []).append(Stretch(split, case, start, end))
    return found


def _content(frames: VideoFrames | ImageFrames, digests: dict[Path, str]) -> tuple[Mark, float, float]:
    if isinstance(frames, VideoFrames):
        return (_digest(frames.path, digests),), frames.start_s, frames.end_s
    ends = (_digest(frames.paths[0], digests), _digest(frames.paths[-1], digests))
    return (len(frames.paths), *ends), 0.0, len(frames.paths) / frames.fps


def _digest(path: Path, known: dict[Path, str]) -> str:
    """Of the size and both ends of a file: enough to tell videos apart, and quick. Links lead to their file."""
    real = path.resolve(strict=True)
    if real not in known:
        size = os.path.getsize(real)
        with open(real, "rb") as file:
            data = file.read(_SAMPLE_BYTES)
            file.seek(max(0, size - _SAMPLE_BYTES))
            known[real] = hashlib.sha256(data + file.read() + str(size).encode()).hexdigest()
    return known[real]


def _overlapping(stretches: Sequence[Stretch]) -> Iterator[tuple[Stretch, Stretch]]:
    """Pairs that share seconds: each stretch with the one before it that reaches furthest, and with other splits'."""
    reaching: dict[str, Stretch] = {}
    for stretch in sorted(stretches, key=lambda s: (s.start_s, s.end_s)):
        yield from ((other, stretch) for other in reaching.values() if other.end_s > stretch.start_s)
        before = reaching.get(stretch.split)
        if before is None or before.end_s < stretch.end_s:
            reaching[stretch.split] = stretch


def _shared(first: Stretch, second: Stretch) -> str:
    return f"{min(first.end_s, second.end_s) - max(first.start_s, second.start_s):.1f} s"
