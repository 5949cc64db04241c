"""The error of visible tokens against float64 NumPy, its distances by all pairs, its rise, and what contradicts it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.positions import distance_to_targets
from surgmotion_jax.pretrain.losses.context import ContextLossConfig, context_loss, divisors, share
from surgmotion_jax.pretrain.sample.masks import MaskSet
from surgmotion_jax.pretrain.setup.summary import describe_loss
from tests.pretrain.fixtures import small_config

GRID = Grid(3, 4, 5)
PREDICTS_VISIBLE = {"model.v21.context_projection": True, "loss.context.weight": 0.5}


def drawn_mask(seed=0, context=9, target=14):
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(GRID.tokens) for _ in range(2)])
    sides = np.sort(order[:, :context]), np.sort(order[:, context : context + target])
    return MaskSet(*map(jnp.asarray, sides))


def by_all_pairs(mask):
    """Distances to the nearest target, as the formula says."""
    places = np.stack(np.unravel_index(np.arange(GRID.tokens), tuple(GRID)), -1)
    pairs = zip(np.asarray(mask.context_BxK), np.asarray(mask.target_BxM), strict=True)
    return np.stack([np.linalg.norm(places[k][:, None] - places[m][None], axis=-1).min(1) for k, m in pairs])


@pytest.mark.parametrize("target", [1, 3, 14])
def test_distances_are_those_of_all_pairs(target):
    mask = drawn_mask(target, target=target)
    want = by_all_pairs(mask)
    assert np.unique(want).size > 2, "several distances occur"
    found = jax.jit(distance_to_targets, static_argnums=2)(*mask, GRID)
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_the_loss_is_the_formula_and_so_is_its_gradient():
    with jax.enable_x64(True):
        rng, mask = np.random.default_rng(0), drawn_mask()
        predicted, target = rng.normal(size=(2, 9, 5)), rng.normal(size=(2, 9, 5))
        real = rng.random((2, 9)) < 0.7
        root = np.sqrt(by_all_pairs(mask))
        per_token = np.abs(predicted - target).mean(-1) / root
        want = np.mean([per_token[b][real[b]].sum() / real[b].sum() for b in range(2)])

        @jax.jit
        def loss(x):
            return context_loss(x, jnp.asarray(target), jnp.asarray(real), jnp.asarray(root))

        assert float(loss(jnp.asarray(predicted))) == pytest.approx(want, abs=1e-12)
        gradient, step = np.asarray(jax.grad(loss)(jnp.asarray(predicted))), rng.normal(size=predicted.shape)
        either = [float(loss(jnp.asarray(predicted + sign * 1e-6 * step))) for sign in (1, -1)]
        assert (either[0] - either[1]) / 2e-6 == pytest.approx((gradient * step).sum(), rel=1e-6)
        assert not gradient[~real].any(), "tokens of padding have no gradient"


def test_distances_can_be_left_out_or_counted_in_the_grid():
    mask = MaskSet(jnp.array([[0]]), jnp.array([[31]]))
    grid = Grid(1, 32, 32)
    roots = jax.jit(divisors, static_argnums=(1, 2))
    divisor = [float(roots(mask, grid, ContextLossConfig(**fields))[0, 0]) for fields in ({}, {"in_grid": True})]
    assert divisor == pytest.approx([31**0.5, (31 / 2) ** 0.5])
    assert divisors(mask, grid, ContextLossConfig(by_distance=False)) == 1


@pytest.mark.parametrize(
    ("rise", "shares"),
    [((10, 30), {0: 0, 10: 0, 20: 0.5, 30: 1, 99: 1}), ((0, 0), {0: 1, 5: 1}), ((7, 7), {6: 0, 7: 1})],
)
def test_the_weight_rises_with_the_steps_of_the_run(rise, shares):
    settings = ContextLossConfig(weight=0.5, rise=rise)
    assert {step: float(share(settings, jnp.int32(step))) for step in shares} == shares


def test_the_banner_says_when_it_counts():
    text = describe_loss(small_config(**PREDICTS_VISIBLE, **{"loss.context.rise": (4, 8)}))
    assert "0.5 visible tokens (0 until step 4, in full from step 8 of this run, by distance)" in text
    assert "visible tokens" not in describe_loss(small_config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.context.weight": 0.5}, r"loss.context.weight is not 0, but the predictor predicts masked.*=True, or"),
        ({"loss.context.weight": -0.5}, r"loss.context.weight is -0.5"),
        ({**PREDICTS_VISIBLE, "loss.context.rise": (8, 4)}, r"loss.context.rise is \(8, 4\); give two steps"),
        ({"model.v21.target_width": 99}, r"target_width is 99.*1 x 384 wide.*target_width=0"),
        ({"model.v21.levels": 3}, r"model.v21.levels is 3; the encoder has 2 blocks, so at most 2"),
        (
            {**PREDICTS_VISIBLE, "objective.kind": "pixel", "loss.affinity.weight": 0.0, "loss.diversity.weight": 0.0},
            r"loss.context.weight are not 0, weights of terms that cannot judge predicted pixels",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(**changes)
