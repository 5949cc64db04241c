"""Intervals: against scipy, by coverage, and where none can be had."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from surgmotion_jax.evaluate.metrics.bootstrap import interval, paired_difference


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_agrees_with_scipy(method):
    data = np.random.default_rng(0).exponential(size=30)
    ours = interval(lambda rows: data[rows].mean(), 30, resamples=4000, method=method)
    theirs = stats.bootstrap(
        (data,), np.mean, n_resamples=4000, method="BCa" if method == "bca" else method, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.04 * np.ptp(theirs) + 0.01)


def test_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        data = rng.normal(size=25)
        low, high = interval(lambda rows, data=data: data[rows].mean(), 25, resamples=300, seed=trial)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_seeded_and_of_the_point_estimate():
    data = np.arange(12.0)
    first, again, other = (interval(lambda rows: data[rows].mean(), 12, resamples=200, seed=s) for s in (3, 3, 4))
    assert first == again != other
    assert first[0] < data.mean() < first[1]


def test_none_where_none_can_be_had():
    assert interval(lambda rows: 1.0, 1) is None
    undefined_when_few = lambda rows: float("nan") if len(set(rows.tolist())) < 3 else 1.0  # noqa: E731
    assert interval(undefined_when_few, 3, resamples=100) is None
    assert paired_difference(lambda rows: 1.0, lambda rows: 2.0, 1) == (1.0, None, None)


def test_pairs_find_what_unpaired_spread_hides():
    rng = np.random.default_rng(0)
    a = rng.normal(scale=5, size=20)
    b = a + 0.5 + rng.normal(scale=0.1, size=20)
    found = paired_difference(lambda rows: a[rows].mean(), lambda rows: b[rows].mean(), 20, resamples=500)
    assert found.interval[0] > 0.3
    assert found.p < 0.01
    same = paired_difference(lambda rows: a[rows].mean(), lambda rows: a[rows].mean(), 20, resamples=500)
    assert same.value == 0
    assert same.p == 1.0


def test_bad_method():
    with pytest.raises(ValueError, match=r"bootstrap method is 'jackknife'; it must be one of bca, percentile"):
        interval(lambda rows: 0.0, 5, method="jackknife")
