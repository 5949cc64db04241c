"""The order of an operation: which phase when, and which actions are likely in it.

What is typical of an operation (how long a phase lasts, what is done in it) belongs to its kind and is the same in
every case; what happened in one case is drawn from it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.simulate.case import Vocabulary

SHORTEST_S = 1.0  # a phase is seen at 1 frame a second
_SKIP = 0.08  # odds that a case leaves a phase out
_RETURN = 0.12  # odds that it goes back one phase and does it again


@dataclass(frozen=True)
class Segment:
    """One visit to a phase, from `start` to `end` in seconds."""

    phase: int
    start: float
    end: float


def draw_workflow(specialty: str, phases: int, seconds: float, rng: np.random.Generator) -> tuple[Segment, ...]:
    """Visits in order of time that together cover the operation from 0 to `seconds`.

    Phases come in order of their number; some are left out, some are returned to. A visit lasts SHORTEST_S at least
    (one visit lasts the whole operation if that is shorter), so a brief operation of many phases has a part of them.
    """
    order = _draw_order(phases, max(1, int(seconds / SHORTEST_S)), rng)
    spread = _typical_duration(specialty, phases)[order] * rng.lognormal(0.0, 0.35, len(order))
    floor = min(SHORTEST_S, seconds / len(order))
    lengths = floor + spread / spread.sum() * (seconds - floor * len(order))
    ends = np.cumsum(lengths)
    ends[-1] = seconds
    starts = [0.0, *ends[:-1].tolist()]
    return tuple(Segment(int(p), s, e) for p, s, e in zip(order, starts, ends.tolist(), strict=True))


def phase_at(workflow: tuple[Segment, ...], time_T: np.ndarray) -> np.ndarray:
    """Phase number at each time in seconds; a visit holds its start and not its end."""
    return np.array([segment.phase for segment in workflow])[visit_at(workflow, time_T)]


def visit_at(workflow: tuple[Segment, ...], time_T: np.ndarray) -> np.ndarray:
    """Number of the visit at each time."""
    row_T = np.searchsorted([segment.end for segment in workflow], time_T, side="right")
    return np.minimum(row_T, len(workflow) - 1)


def instruments_of_phases(specialty: str, vocabulary: Vocabulary, slots: int) -> np.ndarray:
    """The instrument that each phase asks for in each slot, [phases, slots], the same in every case.

    The first slot holds on to one instrument, as the left hand does to its grasper; the others change from phase to
    phase, and no two hold the same while there are enough that can do something.
    """
    first, *others = sorted({instrument for instrument, _, _ in vocabulary.triplets})
    others = others or [first]
    order = _typical(specialty, "exchange", vocabulary.phases, len(others)).permutation(others).tolist()
    asked = np.full((vocabulary.phases, slots), first)
    for phase in range(vocabulary.phases):
        for slot in range(1, slots):
            step = slot * phase + slot - 1
            taken = asked[phase, :slot].tolist()
            free = [order[(step + more) % len(order)] for more in range(len(order))]
            asked[phase, slot] = next((instrument for instrument in free if instrument not in taken), free[0])
    return asked


def triplet_odds(specialty: str, vocabulary: Vocabulary) -> np.ndarray:
    """How much each triplet is done in each phase, [phases, triplets], all above 0.

    A phase prefers some pairs of instrument and target. Within a pair its verbs are equally likely in every phase:
    whatever tells the phase from one picture would otherwise tell something of the verb.
    """
    pairs = sorted({(instrument, target) for instrument, _, target in vocabulary.triplets})
    rng = _typical(specialty, "triplets", vocabulary.phases, vocabulary.instruments, vocabulary.targets)
    odds_PxIxK = rng.lognormal(0.0, 1.5, (vocabulary.phases, vocabulary.instruments, vocabulary.targets))
    verbs = {pair: sum((i, k) == pair for i, _, k in vocabulary.triplets) for pair in pairs}
    columns = [odds_PxIxK[:, i, k] / verbs[i, k] for i, _, k in vocabulary.triplets]
    return np.stack(columns, axis=1)


def _draw_order(phases: int, most: int, rng: np.random.Generator) -> np.ndarray:
    kept = [phase for phase in range(phases) if rng.random() >= _SKIP] or [int(rng.integers(phases))]
    least = phases // 2 + 1
    while len(kept) < least:  # most phases are visited, whatever the draws
        kept = sorted({*kept, int(rng.integers(phases))})
    if len(kept) > most:
        kept = sorted(rng.choice(kept, most, replace=False).tolist())
    order: list[int] = []
    for place, phase in enumerate(kept):
        order.append(phase)
        room = most - len(order) - (len(kept) - place - 1)
        if place and room >= 2 and rng.random() < _RETURN:
            order += [kept[place - 1], phase]
    return np.array(order)


def _typical_duration(specialty: str, phases: int) -> np.ndarray:
    return _typical(specialty, "durations", phases).lognormal(0.0, 0.6, phases)


def _typical(specialty: str, subject: str, *sizes: int) -> np.random.Generator:
    words = [zlib.crc32(specialty.encode()), zlib.crc32(subject.encode()), *sizes]
    return np.random.default_rng(np.random.SeedSequence(words))
