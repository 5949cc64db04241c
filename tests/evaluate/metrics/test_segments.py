"""Segment metrics by hand and by law."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.metrics.segments import Segment, edit_score, segmental_f1, segments


def test_segments_are_runs():
    assert segments(np.array([3, 3, 1, 3])) == [Segment(3, 0, 2), Segment(1, 2, 3), Segment(3, 3, 4)]


def test_edit_score_counts_segments_not_frames():
    truth = np.array([0, 0, 0, 1, 1, 2])
    assert edit_score(truth, np.array([0, 1, 1, 1, 1, 2])) == 1.0
    assert edit_score(truth, np.array([0, 1, 0, 1, 1, 2])) == pytest.approx(1 - 2 / 5)  # two segments too many
    assert edit_score(truth, np.array([2, 2, 2, 2, 2, 2])) == pytest.approx(1 - 2 / 3)


def test_segmental_f1_by_hand():
    truth = np.array([0] * 10 + [1] * 10)
    prediction = np.array([0] * 6 + [1] * 14)  # IoU 6/10 and 10/14
    assert segmental_f1(truth, prediction, 0.5) == 1.0
    assert segmental_f1(truth, prediction, 0.65) == pytest.approx(0.5)
    split = np.array([0] * 5 + [1] + [0] * 4 + [1] * 10)  # the second 0 hits nothing new; the short 1 hits nothing
    assert segmental_f1(truth, split, 0.25) == pytest.approx(2 * 2 / (2 + 4))


@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_prediction_scores_one_and_a_worse_one_less(seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.permutation(6), rng.integers(3, 9, 6))
    assert edit_score(truth, truth) == segmental_f1(truth, truth, 0.5) == 1.0
    assert edit_score(truth, truth[::-1].copy()) < 1.0
