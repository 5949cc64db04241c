"""Writes simulated operations as frames of one's own: images once a second, and a CSV of which instruments they show.

Instruments are named by their kind. One is in a frame where it is inserted and its tip lies within the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.own_frames import FEWEST, KEYS, LABELS
from surgmotion_jax.simulate.geometry import camera_at, project
from surgmotion_jax.simulate.instruments import EXCHANGED_KINDS
from surgmotion_jax.simulate.layouts.files import write_images, write_table
from surgmotion_jax.simulate.layouts.layout import CasePlan, Layout, SimulatedCase, plain_vocabulary

SPECIALTY, RATE, PHASES = "laparoscopic", 1.0, 7
VOCABULARY = plain_vocabulary(PHASES, instruments=len(EXCHANGED_KINDS), triplets=28)


def plan(cases: int, seed: int) -> Sequence[CasePlan]:
    """Cases alike; each is tested once."""
    del seed
    if cases < FEWEST:
        raise ValueError(f"--cases is {cases}; this data set needs at least {FEWEST}: a case is left out at a time")
    return [CasePlan(f"case{number:02d}", "test", VOCABULARY, SPECIALTY) for number in range(1, cases + 1)]


def write_case(case: SimulatedCase, out: Path) -> None:
    write_images(case, RATE, lambda k: out / "frames" / case.id / name_of(k))


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    rows = [
        (case.id, name_of(k), *shown(case, case.frame_at(k / RATE)).tolist())
        for case in cases
        for k in range(case.moments(RATE))
    ]
    write_table(out / LABELS, (*KEYS, *EXCHANGED_KINDS), rows)


def name_of(k: int) -> str:
    """File of the frame at k seconds."""
    return f"{k:06d}.png"


def shown(case: SimulatedCase, frame: int) -> np.ndarray:
    """0 or 1 for each kind of instrument [K]."""
    script, kinds = case.script, np.zeros(len(EXCHANGED_KINDS), np.int64)
    x_M, y_M, depth_M = project(camera_at(script, frame), np.asarray(script.tip_TxMx3[frame], np.float64).T)
    within_M = (depth_M > 0) & (x_M >= 0) & (x_M < script.config.width) & (y_M >= 0) & (y_M < script.config.height)
    kinds[script.instruments_at(frame)[within_M & script.visible_TxM[frame]]] = 1
    return kinds


LAYOUT = Layout("own_frames", SPECIALTY, RATE, plan, write_case, write_index)
