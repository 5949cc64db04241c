"""Every loss term against a plain float64 NumPy evaluation of its formula, and its gradient by finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.losses.affinity import affinity_loss
from surgmotion_jax.pretrain.losses.diversity import diversity_loss, spread
from surgmotion_jax.pretrain.losses.motion import (
    MotionLossConfig,
    dense_token_weights,
    motion_loss,
    topk_token_weights,
)

GRID = Grid(2, 3, 3)
MASKED = np.array([0, 2, 3, 5, 7, 8])  # masked columns
TOKENS = np.concatenate([MASKED, MASKED + 9])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 12, 5)), rng.normal(size=(2, 12, 5))


@pytest.fixture
def score():
    return np.random.default_rng(1).uniform(size=(2, 9))


def masked_rows(batch=2):
    masked = np.zeros((batch, GRID.tokens), bool)
    masked[:, TOKENS] = True
    return jnp.asarray(masked)


def eligible_rows(columns, batch=2):
    eligible = np.zeros((batch, GRID.columns), bool)
    eligible[:, columns] = True
    return jnp.asarray(eligible)


def test_topk_motion_is_the_formula(features, score):
    prediction, target = features
    eligible = MASKED[1:]  # column 0 is outside the field of view
    config = MotionLossConfig(scope="topk", score_norm="none")
    weight = topk_token_weights(jnp.asarray(score), masked_rows(), eligible_rows(eligible), GRID, config)
    want = []
    for b in range(2):
        top = sorted(eligible, key=lambda i: -score[b, i])[:3]
        g = np.array([score[b, i] for i in top])
        w = np.exp(2.0 * g) / np.exp(2.0 * g).sum()
        error = np.abs(prediction[b] - target[b]).mean(-1)
        tube = [error[list(MASKED).index(i) + np.array([0, 6])].mean() for i in top]
        want.append(((1 + w) * tube).sum())
    got = motion_loss(*map(jnp.asarray, features), weight[:, TOKENS])
    np.testing.assert_allclose(got, np.mean(want), rtol=1e-6)
    np.testing.assert_allclose(weight.sum(1), 4.0, rtol=1e-6)  # K + 1


@pytest.mark.parametrize("norm", ["zscore", "minmax"])
def test_score_norms_are_over_the_eligible_tubes(score, norm):
    config = MotionLossConfig(scope="topk", score_norm=norm, top_k=2)
    weight = topk_token_weights(jnp.asarray(score), masked_rows(), eligible_rows(MASKED), GRID, config)
    g = score[0, MASKED]
    g = (g - g.mean()) / g.std() if norm == "zscore" else (g - g.min()) / (g.max() - g.min())
    top = np.sort(g)[::-1][:2]
    w = 1 + np.exp(2 * top) / np.exp(2 * top).sum()
    order = MASKED[np.argsort(-score[0, MASKED])][:2]
    np.testing.assert_allclose(weight[0, order] * GRID.time, w, rtol=1e-6)


def test_dense_motion_is_the_formula(features, score):
    prediction, target = features
    tokens = np.tile(score, (1, 2))
    eligible = masked_rows() & jnp.asarray(np.tile(eligible_rows(MASKED[1:]), (1, 2)))
    weight = dense_token_weights(jnp.asarray(tokens), masked_rows(), eligible, MotionLossConfig(alpha=2.0))
    want = []
    for b in range(2):
        inside = tokens[b, TOKENS][np.isin(TOKENS % 9, MASKED[1:])]
        m = (tokens[b, TOKENS] - inside.min()) / (inside.max() - inside.min())
        w = np.where(np.isin(TOKENS % 9, MASKED[1:]), 1 + 2 * m, 1.0)
        want.append((w * np.abs(prediction[b] - target[b]).mean(-1)).sum() / w.sum())
    got = motion_loss(*map(jnp.asarray, features), weight[:, TOKENS])
    np.testing.assert_allclose(got, np.mean(want), rtol=1e-6)


def test_alpha_zero_is_plain_vjepa(features, score):
    weight = dense_token_weights(
        jnp.asarray(np.tile(score, (1, 2))), masked_rows(), masked_rows(), MotionLossConfig(alpha=0.0)
    )
    got = motion_loss(*map(jnp.asarray, features), weight[:, TOKENS])
    np.testing.assert_allclose(got, np.abs(features[0] - features[1]).mean(), rtol=1e-6)


@pytest.mark.parametrize(("scope", "reduce", "total"), [("topk", "mean", 1), ("dense", "sum", 4), ("topk", "sum", 4)])
def test_reductions_fix_the_total_weight(score, scope, reduce, total):
    config = MotionLossConfig(scope=scope, reduce=reduce)
    if scope == "topk":
        weight = topk_token_weights(jnp.asarray(score), masked_rows(), eligible_rows(MASKED), GRID, config)
    else:
        weight = dense_token_weights(jnp.asarray(np.tile(score, (1, 2))), masked_rows(), masked_rows(), config)
    np.testing.assert_allclose(weight.sum(1), total, rtol=1e-6)


@pytest.mark.parametrize("scope", ["topk", "dense"])
def test_constant_clips_and_empty_fields_of_view_stay_finite(scope):
    flat = jnp.zeros((2, 9))
    for columns in (MASKED, []):
        if scope == "topk":
            weight = topk_token_weights(
                flat, masked_rows(), eligible_rows(columns), GRID, MotionLossConfig(scope=scope)
            )
            assert bool(jnp.isclose(weight.sum(1), 4.0 if len(columns) else 0.0).all())
        else:
            eligible = masked_rows() & jnp.asarray(np.tile(eligible_rows(columns), (1, 2)))
            weight = dense_token_weights(jnp.zeros((2, 18)), masked_rows(), eligible, MotionLossConfig())
            np.testing.assert_allclose(weight[:, TOKENS], 1 / 12)
        assert np.isfinite(weight).all()


def numpy_affinity(prediction, target, keep, tau=0.1):
    def softmax(z):
        u = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-8)
        e = np.exp(u @ u.T / tau)
        return e / e.sum(1, keepdims=True)

    want = []
    for b in range(len(prediction)):
        a, ahat = softmax(target[b][keep]), softmax(prediction[b][keep])
        want.append((a * np.log(a / ahat)).sum() / keep.sum())
    return np.mean(want)


@pytest.mark.parametrize("rows", [100, 12, 5, 1])
def test_affinity_is_the_formula_however_it_is_blocked(features, rows):
    keep = np.ones(12, bool)
    keep[[1, 7]] = False
    got = affinity_loss(*map(jnp.asarray, features), jnp.asarray(np.stack([keep, keep])), tau=0.1, rows=rows)
    np.testing.assert_allclose(got, numpy_affinity(*features, keep), rtol=1e-6)


def test_affinity_blocks_agree_in_gradient(features):
    keep = jnp.ones((2, 12), bool)

    def grad(rows):
        return jax.grad(lambda p: affinity_loss(p, jnp.asarray(features[1]), keep, tau=0.1, rows=rows))(
            jnp.asarray(features[0])
        )

    np.testing.assert_allclose(grad(5), grad(100), rtol=0, atol=1e-12)


def test_diversity_is_the_formula(features):
    keep = np.ones((2, 12), bool)
    keep[0, :4] = False
    got, active = diversity_loss(spread(jnp.asarray(features[0]), jnp.asarray(keep), 1e-4), 1.0)
    std = np.sqrt(features[0][keep].var(0) + 1e-4)
    np.testing.assert_allclose(got, np.maximum(0, 1 - std).mean(), rtol=1e-6)
    np.testing.assert_allclose(active, (std < 1).mean())
    assert 0 < active < 1, "both sides of the hinge must be seen"


def test_all_terms_vanish_at_a_perfect_diverse_prediction(features):
    target = 3 * features[1]
    keep = jnp.ones((2, 12), bool)
    same = jnp.asarray(target)
    assert float(motion_loss(same, same, jnp.ones((2, 12)))) == 0
    assert abs(float(affinity_loss(same, same, keep, tau=0.1, rows=5))) < 1e-12
    assert float(diversity_loss(spread(same, keep, 1e-4), 1.0)[0]) == 0


def finite_difference(fn, x, count=12, step=1e-6):
    rng = np.random.default_rng(2)
    places = [tuple(rng.integers(s) for s in x.shape) for _ in range(count)]
    slopes = []
    for place in places:
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        slopes.append((float(fn(jnp.asarray(up))) - float(fn(jnp.asarray(down)))) / (2 * step))
    return places, np.array(slopes)


@pytest.mark.parametrize("term", ["motion", "affinity", "diversity"])
def test_gradients_against_finite_differences(features, score, term):
    target, keep = jnp.asarray(features[1]), jnp.ones((2, 12), bool)
    weight = topk_token_weights(
        jnp.asarray(score), masked_rows(), eligible_rows(MASKED), GRID, MotionLossConfig(scope="topk")
    )[:, TOKENS]
    fn = {
        "motion": lambda p: motion_loss(p, target, weight),
        "affinity": lambda p: affinity_loss(p, target, keep, tau=0.1, rows=5),
        "diversity": lambda p: diversity_loss(spread(p, keep, 1e-4), 1.0)[0],
    }[term]
    places, slopes = finite_difference(jax.jit(fn), features[0])
    grad = np.asarray(jax.grad(fn)(jnp.asarray(features[0])))
    assert np.abs(grad).max() > 0
    np.testing.assert_allclose([grad[p] for p in places], slopes, rtol=1e-5, atol=1e-8)


def test_zero_features_have_finite_affinity_gradients():
    zeros, keep = jnp.zeros((1, 4, 3)), jnp.ones((1, 4), bool)
    grad = jax.grad(lambda p: affinity_loss(p, zeros + 1.0, keep, tau=0.1, rows=4))(zeros)
    assert np.isfinite(grad).all()
