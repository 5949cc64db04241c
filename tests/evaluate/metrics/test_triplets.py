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


def by_ivtmetrics(labels, scores):
    """(its table of instrument, verb and target of the 100 triplets, video-wise AP of each class by component)."""
    ivtmetrics = pytest.importorskip("ivtmetrics")
    oracle = ivtmetrics.Recognition(num_class=100)
    for label, score in zip(labels, scores, strict=True):
        oracle.update(label, score)
        oracle.video_end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return oracle.bank[:, 1:4], {name: oracle.compute_video_AP(name.lower()) for name in COMPONENTS}


def in_order_of_the_oracle(of_class, table, component):
    """It numbers triplets as the data set does, which is not the ascending order of their parts."""
    return of_class[component_columns(table, component)[1]] if component == "IVT" else of_class


def random_videos(count, frames, share):
    rng = np.random.default_rng(0)
    labels = [(rng.random((frames, 100)) < share).astype(int) for _ in range(count)]
    return labels, [rng.random((frames, 100)) for _ in range(count)]


def test_equal_to_ivtmetrics_where_every_class_is_present():
    labels, scores = random_videos(2, 40, 0.3)
    table, expected = by_ivtmetrics(labels, scores)
    assert all(label.any(0).all() for label in labels)
    for component in COMPONENTS:
        mean, per_class = video_wise(component_scores(labels, scores, table, component))
        per_class = in_order_of_the_oracle(per_class, table, component)
        np.testing.assert_allclose(per_class, expected[component]["AP"], rtol=0, atol=1e-9, err_msg=component)
        assert mean == pytest.approx(expected[component]["mAP"], abs=1e-9)


def test_equal_to_ivtmetrics_class_by_class_in_a_video_that_lacks_some():
    """Of a class that is absent it makes 0 or NaN, by the version of scikit-learn; of the others it is the oracle."""
    labels, scores = random_videos(1, 40, 0.01)
    labels[0][:, :22] = 0  # the first instrument but for its null triplet
    labels[0][:, 94] = 0
    table, expected = by_ivtmetrics(labels, scores)
    for component in COMPONENTS:
        _, per_class = video_wise(component_scores(labels, scores, table, component))
        per_class = in_order_of_the_oracle(per_class, table, component)
        shown = in_order_of_the_oracle(to_component(labels[0], table, component).any(0), table, component)
        assert 1 < shown.sum() < len(shown) or component == "V", component
        assert np.isnan(per_class[~shown]).all()
        found = expected[component]["AP"][shown]
        np.testing.assert_allclose(per_class[shown], found, rtol=0, atol=1e-9, err_msg=component)


def test_bad_input():
    with pytest.raises(ValueError, match=r"component is 'X'; it must be one of I, V, T, IV, IT, IVT"):
        component_columns(TABLE, "X")
    with pytest.raises(ValueError, match=r"labels \[2, 3\] but scores \[1, 3\]"):
        video_average_precision(np.zeros((2, 3)), np.zeros((1, 3)))
