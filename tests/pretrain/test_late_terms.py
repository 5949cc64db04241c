"""The terms of the authors' late history, and VICReg's covariance, against plain float64 evaluations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.losses.covariance import covariance_loss
from surgmotion_jax.pretrain.losses.diversity import clip_spread, diversity_loss, spread
from surgmotion_jax.pretrain.losses.motion import MotionLossConfig, token_weights
from surgmotion_jax.pretrain.losses.relation import relation_loss

RNG = np.random.default_rng(0)
PREDICTED, WANTED = RNG.normal(0, 1, (2, 3, 11, 6))
ELIGIBLE = RNG.random((3, 11)) < 0.7
FLOAT = [jnp.asarray(x, jnp.float32) for x in (PREDICTED, WANTED)]


def cosines(x):
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return unit @ unit.T


def plain_relation(predicted, wanted):
    clips = []
    for p, w, e in zip(predicted, wanted, ELIGIBLE, strict=True):
        size = np.abs(cosines(p[e]) - cosines(w[e]))
        clips.append(np.where(size < 1, 0.5 * size**2, size - 0.5).mean())
    return np.mean(clips)


@pytest.mark.parametrize("rows", [4, 64])
def test_relation_is_the_smooth_l1_of_cosines_however_it_is_cut(rows):
    found, gradient = jax.value_and_grad(lambda p: relation_loss(p, FLOAT[1], ELIGIBLE, rows=rows))(FLOAT[0])
    assert found == pytest.approx(plain_relation(PREDICTED, WANTED), rel=1e-5)
    place, h = (*np.argwhere(ELIGIBLE)[9], 3), 1e-5
    step = np.zeros_like(PREDICTED)
    step[place] = h
    slope = (plain_relation(PREDICTED + step, WANTED) - plain_relation(PREDICTED - step, WANTED)) / (2 * h)
    assert gradient[place] == pytest.approx(slope, rel=1e-3)
    assert (np.asarray(gradient)[~ELIGIBLE] == 0).all()


def test_relation_of_a_perfect_prediction_and_of_nothing_is_zero():
    assert float(relation_loss(FLOAT[0], 3 * FLOAT[0], ELIGIBLE, rows=4)) == pytest.approx(0, abs=1e-10)
    assert float(relation_loss(*FLOAT, np.zeros_like(ELIGIBLE), rows=4)) == 0


def test_covariance_is_vicregs():
    tokens = PREDICTED[ELIGIBLE]
    covariance = np.cov(tokens.T)
    off = covariance - np.diag(np.diag(covariance))
    assert float(covariance_loss(FLOAT[0], ELIGIBLE)) == pytest.approx((off**2).sum() / 6, rel=1e-5)


def test_spread_of_each_clip_by_itself():
    found = clip_spread(FLOAT[0], ELIGIBLE, 1e-4, unbiased=True).std_D
    expected = [np.sqrt(clip[chosen].var(0, ddof=1) + 1e-4) for clip, chosen in zip(PREDICTED, ELIGIBLE, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    offset = FLOAT[0] + jnp.arange(3.0)[:, None, None]  # clips differ: apart, their spread does not see it
    apart, together = clip_spread(offset, ELIGIBLE, 1e-4, unbiased=True), spread(offset, ELIGIBLE)
    np.testing.assert_allclose(apart.std_D, found, rtol=1e-4)
    assert float(diversity_loss(apart, 2.0)[0]) > float(diversity_loss(together, 2.0)[0])


def test_plain_mean_of_one_plus_two_m():
    grid = Grid(2, 1, 3)
    score = jnp.asarray([[0.0, 0.5, 1.0]])
    masked = jnp.asarray([[True, True, True, True, False, False]])
    late = MotionLossConfig(reduce="count", dense_norm="none", alpha=2.0)
    np.testing.assert_allclose(token_weights(score, masked, masked, grid, late), [[0.25, 0.5, 0.75, 0.25, 0, 0]])
    usual = token_weights(score, masked, masked, grid, MotionLossConfig())
    assert float(usual.sum()) == pytest.approx(1), "the default divides by the sum of weights"


def test_counting_under_topk_is_refused():
    with pytest.raises(ValueError, match=r"reduce is 'count', but loss.motion.scope is 'topk'.*scope=dense"):
        MotionLossConfig(reduce="count", scope="topk")
