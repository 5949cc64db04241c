"""Writes simulated operations as frames of one's own: images once a second, and tables of what they show.

labels.csv has a column for each kind of instrument, phases.csv the phase, targets.csv a column for each kind of target,
masks.csv the masks of all instruments. An instrument is in a frame where it is inserted and its tip lies within the
picture; a target where work is done on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.own_frames import FEWEST, KEYS, LABELS, MASKED, NAMED
from surgmotion_jax.simulate.case import NONE
from surgmotion_jax.simulate.geometry import camera_at, project
from surgmotion_jax.simulate.instruments import EXCHANGED_KINDS
from surgmotion_jax.simulate.layouts.files import write_image, write_mask, write_table
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
    for k, frame in case.at_rate(RATE):
        write_image(out / "frames" / case.id / name_of(k), frame.video_HxWx3)
        write_mask(out / mask_of(case.id, name_of(k)), frame.instrument_HxW > 0)


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    targets = [f"target {number}" for number in range(VOCABULARY.targets)]
    seen = [(case, (case.id, name_of(k)), case.frame_at(k / RATE)) for case in cases for k in range(case.moments(RATE))]
    write_table(out / LABELS, (*KEYS, *EXCHANGED_KINDS), [(*key, *shown(case, n).tolist()) for case, key, n in seen])
    phases = [(*key, f"phase {case.script.phase_T[n]}") for case, key, n in seen]
    write_table(out / "phases.csv", (*KEYS, NAMED), phases)
    write_table(out / "masks.csv", (*KEYS, MASKED), [(*key, mask_of(*key)) for _, key, _ in seen])
    worked = [(*key, *worked_on(case, n).tolist()) for case, key, n in seen]
    write_table(out / "targets.csv", (*KEYS, *targets), worked)


def name_of(k: int) -> str:
    """File of the frame at k seconds."""
    return f"{k:06d}.png"


def mask_of(case: str, frame: str) -> str:
    """File of a frame's mask, below the folder of the data set."""
    return f"masks/{case}/{frame}"


def shown(case: SimulatedCase, frame: int) -> np.ndarray:
    """0 or 1 for each kind of instrument [K]."""
    script, kinds = case.script, np.zeros(len(EXCHANGED_KINDS), np.int64)
    x_M, y_M, depth_M = project(camera_at(script, frame), np.asarray(script.tip_TxMx3[frame], np.float64).T)
    within_M = (depth_M > 0) & (x_M >= 0) & (x_M < script.config.width) & (y_M >= 0) & (y_M < script.config.height)
    kinds[script.instruments_at(frame)[within_M & script.visible_TxM[frame]]] = 1
    return kinds


def worked_on(case: SimulatedCase, frame: int) -> np.ndarray:
    """0 or 1 for each kind of target [K]."""
    target_M = case.script.triplet_TxMx3[frame, :, 2]
    kinds = np.zeros(VOCABULARY.targets, np.int64)
    kinds[target_M[target_M != NONE]] = 1
    return kinds


LAYOUT = Layout("own_frames", SPECIALTY, RATE, plan, write_case, write_index)
