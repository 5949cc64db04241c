"""Frame-wise metrics against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from surgmotion_jax.evaluate.metrics.phases import (
    SCORES,
    class_scores,
    confusion,
    pooled_scores,
    relaxed_hits,
    video_scores,
)


def random_video(seed, classes=5, n=200, present=4):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, present, n)
    return truth, np.where(rng.random(n) < 0.6, truth, rng.integers(0, classes, n))


def sklearn_scores(truth, prediction, labels):
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    return {
        "precision": metrics.precision_score(truth, prediction, **options),
        "recall": metrics.recall_score(truth, prediction, **options),
        "f1": metrics.f1_score(truth, prediction, **options),
        "jaccard": metrics.jaccard_score(truth, prediction, **options),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("convention", ["present", "union"])
def test_scores_equal_scikit_learn(seed, convention):
    truth, prediction = random_video(seed)
    counted = np.unique(truth) if convention == "present" else np.union1d(truth, prediction)
    ours = video_scores(truth, prediction, 5, convention)
    theirs = sklearn_scores(truth, prediction, counted)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, prediction), abs=1e-12)
    for name in SCORES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9)


def test_the_two_conventions_differ_by_a_spurious_phase():
    truth, prediction = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    assert video_scores(truth, prediction, 3, "present")["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert video_scores(truth, prediction, 3, "union")["f1"] == pytest.approx((1 + 2 / 3) / 3)


def test_a_phase_never_predicted_scores_nothing_and_an_absent_one_does_not_count():
    scores = class_scores(confusion(np.array([0, 1]), np.array([0, 0]), 3), "present")
    np.testing.assert_allclose(scores["precision"], [0.5, 0.0, np.nan])
    np.testing.assert_allclose(scores["jaccard"], [0.5, 0.0, np.nan])


def test_pooling_equals_one_long_video():
    videos = [random_video(seed) for seed in range(3)]
    pooled = pooled_scores(np.stack([confusion(t, p, 5) for t, p in videos]), "union")
    whole = video_scores(*(np.concatenate(x) for x in zip(*videos, strict=True)), 5, "union")
    assert pooled == pytest.approx(whole)


def test_relaxed_forgives_neighbours_near_boundaries_only():
    truth = np.repeat([0, 1, 2], 30)
    prediction = truth.copy()
    prediction[20:30] = 1  # the last 10 s of phase 1 already called phase 2
    prediction[30:35] = 0  # the first 5 s of phase 2 still called phase 1
    prediction[45] = 0  # in the middle: wrong
    prediction[89] = 4  # two phases ahead at the end of phase 3: wrong, since only phases 4 to 7 accept it
    assert np.flatnonzero(~relaxed_hits(truth, prediction, 1.0)).tolist() == [45, 89]
    # At 2 labels a second the same 10 s are 20 moments, so at half that rate half as many are forgiven.
    assert np.flatnonzero(~relaxed_hits(truth, prediction, 0.5)).tolist() == [*range(20, 25), 45, 89]


def test_relaxed_accepts_two_phases_where_the_rule_says_so():
    truth = np.full(30, 5)  # phase 6
    early, late = truth.copy(), truth.copy()
    early[0], late[-1] = 3, 7 - 1
    assert relaxed_hits(truth, early, 1.0).all()
    assert relaxed_hits(truth, late, 1.0).all()
    fourth = np.full(30, 3)
    two_ahead, two_behind = fourth.copy(), fourth.copy()
    two_ahead[-1], two_behind[0] = 5, 1
    assert relaxed_hits(fourth, two_ahead, 1.0).all()
    assert not relaxed_hits(fourth, two_behind, 1.0)[0]


def test_relaxed_scores_by_hand():
    truth = np.array([0] * 20 + [1] * 20)
    prediction = np.array([0] * 15 + [1] * 25)
    scores = video_scores(truth, prediction, 7, "relaxed")
    # Phase 1: 20 forgiven or right of 20 true, 15 predicted: precision capped at 1. Phase 2: 25 of 25, capped recall.
    assert scores == pytest.approx({"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0, "jaccard": 1.0})
    assert video_scores(truth, prediction, 7, "present")["accuracy"] == pytest.approx(35 / 40)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: video_scores(np.array([0, -1]), np.array([0, 0]), 2), r"truth holds the class ids -1..0; 2 classes"),
        (lambda: video_scores(np.array([0, 1]), np.array([0, 2]), 2), r"prediction holds the class ids 0..2"),
        (lambda: video_scores(np.array([0.0]), np.array([0]), 2), r"truth is float64\[1\]; give integer class ids"),
        (lambda: video_scores(np.array([0, 1]), np.array([0]), 2), r"2 labels but 1 predictions"),
        (lambda: video_scores(np.array([0]), np.array([0]), 5, "relaxed"), r"defined for the 7 phases of Cholec80"),
        (lambda: video_scores(np.array([0]), np.array([0]), 5, "loose"), r"convention is 'loose'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
