"""Writes simulated bench-top trials as JIGSAWS lies on disk: video, kinematics, gestures, and a table of scores.

Letters: T frames, K columns of kinematics.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.jigsaws import FOLDS, SUPER_TRIALS, TASKS, USERS, user_of, validation_user
from surgmotion_jax.simulate.case import NONE
from surgmotion_jax.simulate.layouts.files import write_mp4, write_table
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits

SPECIALTY = "open"
TESTED = USERS[0]
MANIPULATORS = 4  # left and right master, left and right slave; 19 columns each
COLUMNS = 76
METRES = 1e-3


def task_of(trial: str) -> str:
    """Suturing of Suturing_B001."""
    return trial[: -len("_B001")]


def write_case(case: SimulatedCase, out: Path) -> None:
    folder = out / task_of(case.id)
    write_mp4(case, folder / "video" / f"{case.id}_capture1.mp4")
    rows = [[f"{value:.6f}" for value in row] for row in kinematics(case).tolist()]
    write_table(folder / "kinematics" / "AllGestures" / f"{case.id}.txt", None, rows, " ")
    write_table(folder / "transcriptions" / f"{case.id}.txt", None, gestures(case), " ")


def kinematics(case: SimulatedCase) -> np.ndarray:
    """Position (m), rotation matrix, velocity, angular velocity and gripper angle of each manipulator, [T, K]."""
    script, step_s = case.script, 1 / case.fps
    parts = []
    for slot in range(MANIPULATORS // 2):
        roll_T, tip_Tx3 = script.roll_TxM[:, slot], script.tip_TxMx3[:, slot] * METRES
        cos_T, sin_T, one_T, zero_T = np.cos(roll_T), np.sin(roll_T), np.ones(len(roll_T)), np.zeros(len(roll_T))
        turn_Tx9 = np.stack([cos_T, -sin_T, zero_T, sin_T, cos_T, zero_T, zero_T, zero_T, one_T], 1)
        spin_Tx3 = np.stack([zero_T, zero_T, _rate(roll_T, step_s)], 1)
        parts.append([tip_Tx3, turn_Tx9, _rate(tip_Tx3, step_s), spin_Tx3, script.opening_TxM[:, slot, None]])
    # The slave follows the master exactly.
    return np.concatenate([column for side in (*parts, *parts) for column in side], axis=1)


def _rate(value_Tx: np.ndarray, step_s: float) -> np.ndarray:
    return np.diff(value_Tx, axis=0, prepend=value_Tx[:1]) / step_s


def gestures(case: SimulatedCase) -> list[tuple[int, int, str]]:
    """(first frame, last frame, gesture), counted from 1, wherever the first instrument does something."""
    verb_T = case.script.triplet_TxMx3[:, 0, 1]
    borders = [0, *(np.flatnonzero(np.diff(verb_T)) + 1).tolist(), len(verb_T)]
    return [(a + 1, b, f"G{verb_T[a] + 1}") for a, b in pairwise(borders) if verb_T[a] != NONE]


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    for task in dict.fromkeys(task_of(case.id) for case in cases):
        rows = [
            (case.id, "NIE"[min(2, int(3 * case.script.skill))], case.script.grs, *case.script.grs_6.tolist())
            for case in cases
            if task_of(case.id) == task
        ]
        write_table(out / task / f"meta_file_{task}.txt", None, rows, "\t")
    folds = [(case.id, FOLDS[place % len(FOLDS)]) for place, case in enumerate(cases)]
    write_table(out / "folds.csv", ("trial", "fold"), folds)


def split_of(trial: str) -> str:
    """Where leaving out the first user puts a trial."""
    users = {TESTED: "test", validation_user(TESTED): "val"}
    return users.get(user_of(trial), "train")


# Turned from task to task and user to user, so that a few cases already differ in user, task and trial.
TRIALS = [
    f"{task}_{user}{SUPER_TRIALS[(turn + place + step) % len(SUPER_TRIALS)]:03d}"
    for turn in range(len(SUPER_TRIALS))
    for place, user in enumerate(USERS)
    for step, task in enumerate(TASKS)
]
IDS = {split: [trial for trial in TRIALS if split_of(trial) == split] for split in ("train", "val", "test")}
PLAN = plans_over_splits(IDS, plain_vocabulary(1), SPECIALTY)
LAYOUT = Layout("jigsaws", SPECIALTY, 10.0, PLAN, write_case, write_index)
