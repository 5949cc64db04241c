"""Gauges against plain float64 evaluations of their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.pretrain.monitor.gauges import alignment, feature_ranks, lidar, rankme, uniformity

RNG = np.random.default_rng(0)


def plain_lidar(views, delta=1e-4, epsilon=1e-7):
    """The definition, with a symmetric square root."""
    means = views.mean(1)
    between = np.cov(means.T, bias=True)
    within = np.mean([np.outer(v - m, v - m) for clip, m in zip(views, means, strict=True) for v in clip], axis=0)
    value, vector = np.linalg.eigh(within + delta * np.eye(views.shape[-1]))
    root = vector @ np.diag(value**-0.5) @ vector.T
    eigenvalues = np.maximum(np.linalg.eigvalsh(root @ between @ root), 0)
    share = eigenvalues / np.abs(eigenvalues).sum() + epsilon
    return np.exp(-(share * np.log(share)).sum())


@pytest.mark.parametrize("shape", [(40, 6, 10), (5, 3, 12)])
def test_lidar_is_its_definition(shape):
    scale = np.geomspace(3, 0.1, shape[-1])
    views = RNG.normal(size=(shape[0], 1, shape[-1])) * scale + 0.3 * RNG.normal(size=shape)
    assert lidar(views.astype(np.float32)) == pytest.approx(plain_lidar(views), rel=1e-4)


def test_lidar_counts_the_directions_in_which_clips_differ():
    within = 0.1 * RNG.normal(size=(400, 8, 16))
    for directions in (1, 4, 12):
        between = np.zeros((400, 1, 16))
        between[..., :directions] = RNG.normal(size=(400, 1, directions))
        assert lidar(between + within) == pytest.approx(directions, rel=0.15)
    assert lidar(np.ones((4, 2, 3))) == 0


def test_alignment_and_uniformity_are_their_definitions():
    views = RNG.normal(size=(7, 4, 5))
    unit = views / np.linalg.norm(views, axis=-1, keepdims=True)
    pairs = [np.square(a - b).sum() for clip in unit for i, a in enumerate(clip) for b in clip[i + 1 :]]
    assert alignment(views) == pytest.approx(np.mean(pairs))
    mean = views.mean(1)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    pairs = [np.exp(-2 * np.square(a - b).sum()) for i, a in enumerate(mean) for b in mean[i + 1 :]]
    assert uniformity(views.mean(1)) == pytest.approx(np.log(np.mean(pairs)))
    assert alignment(np.ones((3, 4, 5))) == pytest.approx(0, abs=1e-12)
    assert uniformity(np.ones((3, 5))) == pytest.approx(0, abs=1e-12)


def test_several_levels_have_gauges_each_and_the_last_one_counts():
    views = np.concatenate([np.ones((30, 4, 6)), RNG.normal(size=(30, 4, 6))], axis=-1)
    tokens = views.reshape(-1, 12)
    found = feature_ranks(tokens.T @ tokens, views, 6)
    assert found["gauge/rankme"] == found["gauge/rankme_level2"] > 4 > found["gauge/rankme_level1"]
    assert found["gauge/lidar"] == found["gauge/lidar_level2"] > found["gauge/lidar_level1"] == 0
    single = feature_ranks(tokens.T @ tokens, None, 12)
    assert single == {"gauge/rankme": rankme(tokens.T @ tokens)}
