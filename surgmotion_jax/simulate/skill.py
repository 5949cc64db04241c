"""What skill does to the hands, and the rating that an expert would give.

Novices move further for the same work, shake and stray more, and pause longer (JIGSAWS, Gao et al., 2014; OSATS,
Martin et al., 1997). All lengths are shares of the view, so that every specialty shows the same in its pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TREMOR_HZ = (8.0, 12.0)  # physiological tremor
STRAY_HZ = (0.3, 1.2)
ITEMS = 6  # respect for tissue, suture or needle handling, time and motion, flow, overall performance, final quality
_ITEM_NOISE = 0.05


@dataclass(frozen=True)
class Handling:
    """How the hands of one surgeon move."""

    tremor: float  # root mean square on each axis, share of the view
    stray: float  # slow aimless movement, the same measure
    detour: float  # how far a movement from place to place bulges, share of its length
    swings: int  # corrections on the way
    pause_s: float  # mean pause between two actions


def handling(skill: float) -> Handling:
    """Handling of a skill from 0 (novice) to 1 (expert).

    Raises:
        ValueError: for a skill outside 0..1.
    """
    if not 0 <= skill <= 1:
        raise ValueError(f"skill is {skill}; it must lie in [0, 1], 0 a novice and 1 an expert")
    lack = 1 - skill
    return Handling(
        tremor=0.0005 + 0.0060 * lack,
        stray=0.001 + 0.0015 * lack,
        detour=0.05 + 0.45 * lack,
        swings=1 + round(2 * lack),
        pause_s=0.2 + 4.3 * lack,
    )


def draw_grs(skill: float, rng: np.random.Generator) -> np.ndarray:
    """Six items of the global rating scale, whole numbers 1..5; each rises with skill, with a small noise."""
    item_6 = skill + rng.normal(0.0, _ITEM_NOISE, ITEMS)
    return np.clip(np.rint(1 + 4 * item_6), 1, 5).astype(np.int64)
