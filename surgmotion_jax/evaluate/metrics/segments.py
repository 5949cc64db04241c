"""Metrics of the order and extent of phases: runs of equal labels instead of frames."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Segment(NamedTuple):
    """A run of one label: moments start..end-1."""

    label: int
    start: int
    end: int


def segments(label_N: np.ndarray) -> list[Segment]:
    """The runs of equal labels, in order."""
    edges = [0, *(np.flatnonzero(np.diff(label_N)) + 1).tolist(), len(label_N)]
    return [Segment(int(label_N[a]), a, b) for a, b in itertools.pairwise(edges) if b > a]


def edit_score(truth_N: np.ndarray, prediction_N: np.ndarray) -> float:
    """1 - Levenshtein distance of the two orders of segments / length of the longer order."""
    truth, prediction = ([s.label for s in segments(x)] for x in (truth_N, prediction_N))
    return 1 - _levenshtein(truth, prediction) / max(len(truth), len(prediction), 1)


def segmental_f1(truth_N: np.ndarray, prediction_N: np.ndarray, overlap: float) -> float:
    """F1@overlap: a predicted segment hits if its IoU with a not yet hit true segment of its label reaches `overlap`.

    Each predicted segment is compared with the true segment of its label that it overlaps most (Lea et al., 2017).
    """
    truth, prediction = segments(truth_N), segments(prediction_N)
    used: set[int] = set()
    for p in prediction:
        best, row = max(((_iou(p, t), i) for i, t in enumerate(truth) if t.label == p.label), default=(0.0, -1))
        if best >= overlap and row >= 0 and row not in used:
            used.add(row)
    return 2 * len(used) / (len(truth) + len(prediction))


def _iou(a: Segment, b: Segment) -> float:
    shared = max(0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (max(a.end, b.end) - min(a.start, b.start))


def _levenshtein(a: Sequence[int], b: Sequence[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
