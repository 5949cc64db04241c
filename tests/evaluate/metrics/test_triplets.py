"""Average precision against scikit-learn and ivtmetrics, and where classes are absent."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics

from surgmotion_jax.evaluate.metrics.triplets import (
    COMPONENTS,
    average_precision,
    component_columns,
    component_scores,
    to_component,
    top_k_accuracy,
    video_average_precision,
    video_wise,
)

TABLE = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision_equals_scikit_learn_with_ties(seed, levels):
    rng = np.random.default_rng(seed)
    label, score = rng.integers(0, 2, 80), rng.integers(0, levels, 80) / levels
    assert average_precision(label, score) == pytest.approx(metrics.average_precision_score(label, score), abs=1e-9)


def test_components_take_the_maximum_over_member_triplets():
    np.testing.assert_array_equal(component_columns(TABLE, "IV")[0], [[0, 0], [0, 1], [1, 1]])
    scores = np.array([[0.1, 0.2, 0.9, 0.4]])
    np.testing.assert_array_equal(to_component(scores, TABLE, "IV"), [[0.1, 0.2, 0.9]])
    np.testing.assert_array_equal(to_component(scores, TABLE, "T"), [[0.9, 0.4]])


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_perfect_prediction_is_one_where_classes_are_absent(component):
    label = np.zeros((6, 4))
    label[2:4, 1] = 1
    mean, per_class = video_wise(component_scores([label], [label], TABLE, component))
    assert mean == 1.0
    assert np.isnan(per_class).any()


def test_video_wise_means_over_videos_then_classes():
    precision = np.array([[1.0, np.nan], [0.5, 0.25], [0.0, np.nan]])
    mean, per_class = video_wise(precision)
    np.testing.assert_allclose(per_class, [0.5, 0.25])
    assert mean == pytest.approx(0.375)


def test_equal_to_ivtmetrics_where_every_class_is_present():
    ivtmetrics = pytest.importorskip("ivtmetrics")
    rng = np.random.default_rng(0)
    labels = [(rng.random((60, 100)) < 0.3).astype(int) for _ in range(2)]
    scores = [rng.random((60, 100)) for _ in range(2)]
    assert all(label.any(0).all() for label in labels)
    oracle = ivtmetrics.Recognition(num_class=100)
    oracle.reset()
    for label, score in zip(labels, scores, strict=True):
        oracle.update(label, score)
        oracle.video_end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle.compute_video_AP("ivt")["mAP"]
    ours, _ = video_wise(np.stack([video_average_precision(y, s) for y, s in zip(labels, scores, strict=True)]))
    assert ours == pytest.approx(expected, abs=1e-9)


def test_top_k():
    label = np.array([[1, 0, 1], [0, 1, 0]])
    score = np.array([[0.9, 0.5, 0.1], [0.2, 0.1, 0.3]])
    assert top_k_accuracy(label, score, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(label, score, 3) == 1.0
    assert np.isnan(top_k_accuracy(np.zeros((2, 3)), score, 1))


def test_bad_input():
    with pytest.raises(ValueError, match=r"component is 'X'; it must be one of I, V, T, IV, IT, IVT"):
        component_columns(TABLE, "X")
    with pytest.raises(ValueError, match=r"labels \[2, 3\] but scores \[1, 3\]"):
        video_average_precision(np.zeros((2, 3)), np.zeros((1, 3)))
