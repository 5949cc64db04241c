"""Nearest neighbours by cosine: against the definition, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.heads.knn import nearest_neighbours, one_hot

RNG = np.random.default_rng(0)
BANK, QUERY, LABEL = RNG.normal(size=(30, 6)), RNG.normal(size=(11, 6)), RNG.integers(0, 4, 30)


def by_definition(k, temperature):
    out = []
    for query in QUERY:
        cosine = BANK @ query / np.linalg.norm(BANK, axis=1) / np.linalg.norm(query)
        near = np.argsort(-cosine, kind="stable")[:k]
        weight = np.exp(cosine[near] / temperature)
        out.append([weight[LABEL[near] == c].sum() / weight.sum() for c in range(4)])
    return np.array(out)


@pytest.mark.parametrize(("k", "temperature", "block"), [(5, 0.07, 4), (1, 0.07, 11), (30, 0.5, 256)])
def test_weighted_votes_are_those_of_the_definition(k, temperature, block):
    found = nearest_neighbours(BANK, one_hot(LABEL, 4), QUERY, k=k, temperature=temperature, block=block)
    np.testing.assert_allclose(found, by_definition(k, temperature), rtol=0, atol=1e-5)
    assert len(set(found.argmax(1))) > 1


def test_lengths_of_features_do_not_matter_and_scores_are_averaged():
    score = RNG.normal(size=(30, 1))
    found = nearest_neighbours(BANK * RNG.uniform(0.1, 9, (30, 1)), score, QUERY * 7, k=3)
    np.testing.assert_allclose(found, nearest_neighbours(BANK, score, QUERY, k=3), atol=1e-5)
    np.testing.assert_allclose(nearest_neighbours(BANK, score, BANK, k=1), score, atol=1e-6)
    assert nearest_neighbours(BANK, score, QUERY[:0], k=3).shape == (0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 31}, r"k is 31; with 30 training features it must lie in 1..30"),
        ({"temperature": 0.0}, r"temperature is 0.0; it must be positive"),
        ({"block": 0}, r"block is 0; it must be at least 1"),
        ({"query_MxD": QUERY[:, :5]}, r"training features \(30, 6\), queries \(11, 5\): both are rows of one width"),
        ({"target_NxK": LABEL}, r"targets \(30,\) for 30 training features: give one row a feature"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, message):
    given = {"bank_NxD": BANK, "target_NxK": one_hot(LABEL, 4), "query_MxD": QUERY} | changes
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(**given)


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"labels span -1..2; allowed are 0..3"):
        one_hot([-1, 2], 4)
