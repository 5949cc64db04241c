"""Which instrument each slot holds when: exchanged through the ports as phases ask for another.

Letters: S visits to phases, M instrument slots.
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.simulate.case import Vocabulary
from surgmotion_jax.simulate.workflow import Segment, instruments_of_phases

_OTHER = 0.15  # odds that a slot holds another instrument in a visit than its phase asks for


def draw_exchange(
    specialty: str, vocabulary: Vocabulary, workflow: tuple[Segment, ...], slots: int, rng: np.random.Generator
) -> np.ndarray:
    """The instrument of each slot in each visit, [S, M]: what the phase asks for, now and then another one."""
    asked_PxM = instruments_of_phases(specialty, vocabulary, slots)
    able = sorted({instrument for instrument, _, _ in vocabulary.triplets})
    held_SxM = asked_PxM[[segment.phase for segment in workflow]]
    for visit in held_SxM:
        for slot in range(1, slots):
            free = [instrument for instrument in able if instrument not in visit]
            if rng.random() < _OTHER and free:
                visit[slot] = rng.choice(free)
    return held_SxM
