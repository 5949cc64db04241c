"""What is kept of each recording, and what is left out for which reason: from all units and what they share.

Letters: M pictures of a part that were looked at, T seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.fingerprint import Fingerprint
from surgmotion_jax.corpus.lists import ListedVideo
from surgmotion_jax.corpus.losses import COPY, LEAK, NEAR_COPY, UNREADABLE, Loss, clock
from surgmotion_jax.corpus.matching import Match
from surgmotion_jax.corpus.packing import Kept
from surgmotion_jax.corpus.recording import Recording
from surgmotion_jax.corpus.stretches import Run, kept
from surgmotion_jax.corpus.unit import Part, Unit

_MARGIN_S = 1
"""Seconds around a match that are left out with it: a match is known to a second."""


@dataclass(frozen=True, eq=False)
class Source:
    """A part of a recording with the names that its source gives it."""

    recording: Recording
    content: str
    case: str
    part: Part
    seconds: Fingerprint

    def loss(self, run: Run, detail: str = "") -> Loss:
        """A run of pictures as a stretch of the recording."""
        begin_s, rate = self.part.first / self.part.fps, self.part.rate
        times = begin_s + run.start / rate, min(begin_s + run.stop / rate, self.part.end / self.part.fps)
        return Loss(self.recording.dataset, self.case, self.recording.path, *times, run.reason, detail)


def copies(found: Sequence[tuple[Recording, str]]) -> tuple[list[tuple[Recording, str]], list[Loss]]:
    """Recordings with their content, without those whose content was listed before, and these."""
    first: dict[tuple[str, tuple[tuple[float, float], ...]], Recording] = {}
    remaining, losses = [], []
    for recording, content in found:
        original = first.setdefault((content, recording.segments), recording)
        if original is recording:
            remaining.append((recording, content))
        else:
            losses.append(whole(recording, COPY, f"the same file as {original.name}"))
    return remaining, losses


def whole(recording: Recording, reason: str, detail: str) -> Loss:
    """A recording that is left out altogether, whose length need not be known."""
    return Loss(recording.dataset, recording.case, recording.path, 0.0, 0.0, reason, detail)


def faults(units: Sequence[tuple[Recording, Unit]]) -> list[Loss]:
    """The recordings that cannot be read."""
    return [whole(recording, UNREADABLE, unit.fault) for recording, unit in units if unit.fault]


def shared(
    sources: Sequence[Source], listed: Sequence[ListedVideo], found: Sequence[Match]
) -> dict[int, list[tuple[Run, str]]]:
    """By source, what it shares with a list, or with a source before it. Matches count lists first, then sources."""
    by_source: dict[int, list[tuple[Run, str]]] = {}
    for match in found:
        row = match.first - len(listed)
        if row < 0:
            continue  # two benchmarks
        part, length = sources[row].part, len(sources[row].seconds)
        start, stop = max(0, match.start - _MARGIN_S), min(length, match.stop + _MARGIN_S)
        # The last second may go on for a part of one.
        last = round(stop * part.rate) if stop < length else part.pictures
        leak = match.second < len(listed)
        run = Run(round(start * part.rate), last, LEAK if leak else NEAR_COPY)
        by_source.setdefault(row, []).append((run, _where(match, sources, listed)))
    return by_source


def decide(
    sources: Sequence[Source], common: Mapping[int, Sequence[tuple[Run, str]]], config: IngestConfig
) -> tuple[list[Kept], list[Loss]]:
    """What is kept, and what is not. A source of which nothing remains is no case of the store."""
    all_kept, losses = [], []
    for row, source in enumerate(sources):
        part, others = source.part, common.get(row, ())
        left_out = [*part.left_out, *(run for run, _ in others)]
        remaining, short = kept(part.pictures, left_out, part.cuts, round(config.least_s * part.rate))
        losses += [source.loss(run) for run in (*part.left_out, *short)]
        losses += [source.loss(run, detail) for run, detail in others]
        if remaining:
            stretches = tuple(_frames(part, start, stop) for start, stop in remaining)
            names = source.recording.dataset, source.case, source.recording.specialty
            all_kept.append(Kept(*names, source.content, part, stretches))
    return all_kept, sorted(losses, key=lambda loss: (loss.dataset, loss.case, loss.start_s))


def kept_seconds(kept: Sequence[Kept], sources: Sequence[Source]) -> Iterator[Fingerprint]:
    """The fingerprints of what is kept: seconds that are not, even in part, count as showing nothing."""
    named = {(source.recording.dataset, source.case): source.seconds for source in sources}
    for one in kept:
        seconds = named[one.dataset, one.case]
        start_T = seconds.first_s + np.arange(len(seconds))
        kept_T = np.zeros(len(seconds), bool)
        for start, stop in one.stretches:
            kept_T |= (start_T + 1 > start / one.part.fps) & (start_T < stop / one.part.fps)
        yield dataclasses.replace(seconds, strong_T=seconds.strong_T & kept_T)


def _left_out(part: Part, seconds: int) -> np.ndarray:
    """Whether a second is left out anyway, even in part, bool [T]: a title that two recordings share is no copy."""
    flag_T = np.zeros(seconds, bool)
    for run in part.left_out:
        flag_T[int(run.start / part.rate) : math.ceil(run.stop / part.rate)] = True
    return flag_T


def _frames(part: Part, start: int, stop: int) -> tuple[int, int]:
    """Pictures that were looked at as numbers of frames."""
    return part.first + start * part.step, min(part.first + stop * part.step, part.first + part.frames)


def _where(match: Match, sources: Sequence[Source], listed: Sequence[ListedVideo]) -> str:
    """What the other side of a match is, and from when to when."""
    if match.second < len(listed):
        other, title = listed[match.second].seconds, listed[match.second].title
    else:
        other = sources[match.second - len(listed)].seconds
        title = other.name
    start_s, stop_s = (other.first_s + second + match.ahead for second in (match.start, match.stop))
    return f"is {title} from {clock(start_s)} to {clock(stop_s)}"


def case_of(recording: Recording, number: int) -> str:
    """The name of a take of a recording: takes after the first are cases of their own."""
    return f"{recording.case}.take{number + 1}" if number else recording.case


def named_parts(recording: Recording, content: str, unit: Unit, prints: Sequence[Fingerprint]) -> Iterator[Source]:
    """The parts of a unit under the names of its source."""
    for number, (part, seconds) in enumerate(zip(unit.parts, prints, strict=True)):
        case = case_of(recording, number)
        strong_T = seconds.strong_T & ~_left_out(part, len(seconds))
        named = Fingerprint(recording.dataset, case, seconds.hash_TxW, strong_T, part.first / part.fps)
        yield Source(recording, content, case, part, named)
