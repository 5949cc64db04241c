"""How much of a simulated task the simulation's own state holds, before any picture: run as a program.

  python -m tests.simulate.ceilings runs/families

What an encoder finds in pictures of Cholec80 or JIGSAWS as simulated there is to be read against these numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.evaluate.metrics.skill import spearman
from surgmotion_jax.simulate.case import NONE
from surgmotion_jax.simulate.truth import load_truth

WINDOW_S = 16.0  # what an encoder sees of an operation before a scored moment
SKILL_FPS = 2.0  # about that of 16 frames spread over a trial of 8 s


def done_before(root: Path, case: Case, instruments: int, targets: int) -> np.ndarray:
    """[N, K] of the scored moments: share of the window in which each instrument worked on each target."""
    truth = load_truth(root, case.id)
    triplet_TxMx3, fps = truth["triplet_TxMx3"], float(truth["fps"])
    frames = len(triplet_TxMx3)
    done_TxK = np.zeros((frames, instruments * targets))
    for slot in range(triplet_TxMx3.shape[1]):
        instrument_T, _, target_T = triplet_TxMx3[:, slot].T
        at = np.flatnonzero(instrument_T != NONE)
        done_TxK[at, instrument_T[at] * targets + target_T[at]] = 1.0
    stop_N = np.minimum((case.times_N * fps).astype(int) + 1, frames)
    start_N = np.maximum(stop_N - round(WINDOW_S * fps), 0)
    return np.stack([done_TxK[a:b].mean(0) for a, b in zip(start_N, stop_N, strict=True)])


def phase_accuracy(root: Path) -> tuple[float, float]:
    """(accuracy of a logistic regression on what was done, share of the commonest phase) over test moments."""
    from sklearn.linear_model import LogisticRegression

    cases = get("cholec80").read(root, "official").cases
    vocabulary = load_truth(root, cases["train"][0].id)["triplets_Rx3"].max(0) + 1

    def rows(split: str) -> tuple[np.ndarray, np.ndarray]:
        done = [done_before(root, case, vocabulary[0], vocabulary[2]) for case in cases[split]]
        return np.concatenate(done), np.concatenate([case.labels["phase"] for case in cases[split]])

    (x, y), (x_test, y_test) = rows("train"), rows("test")
    found = LogisticRegression(max_iter=2000).fit(x, y).predict(x_test)
    return float((found == y_test).mean()), float(np.bincount(y_test).max() / len(y_test))


def skill_correlations(root: Path) -> dict[str, float]:
    """Spearman of the rating with path length and idle share of the true tips, read as often as an encoder does."""
    rows = []
    for case in (case for split in get("jigsaws").read(root, "loso1").cases.values() for case in split):
        truth = load_truth(root, case.id)
        every = max(1, round(float(truth["fps"]) / SKILL_FPS))
        moved = np.linalg.norm(np.diff(truth["tip_TxMx3"][::every], axis=0), axis=-1)
        moved *= truth["visible_TxM"][::every][1:]
        rows.append((truth["grs_6"].sum(), moved.sum(), (moved < 0.1 * moved.max()).mean()))
    grs, path, idle = np.array(rows, float).T
    return {"path": spearman(path, grs), "idle": spearman(idle, grs)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder that launch/families.sh made")
    folder = parser.parse_args().study
    print("phases: accuracy {:.3f}, always the commonest {:.3f}".format(*phase_accuracy(folder / "cholec80")))
    print("skill: Spearman of {}".format(skill_correlations(folder / "jigsaws")))
