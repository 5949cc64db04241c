"""Scores between two anchors: worked by hand, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare.seeds import SeedMean
from surgmotion_jax.evaluate.compare.strengths import Measured, scores, units_of

CASES = 30
NOISE_C = np.random.default_rng(5).normal(0, 0.02, CASES)


def one(*means: float, noise: float = 1.0, sign: int = 1) -> Measured:
    """A seed for each mean, over cases that differ alike for everybody."""

    def statistic(mean: float):
        value_C = sign * (mean + noise * (NOISE_C - NOISE_C.mean()))
        return lambda rows: float(value_C[rows].mean())

    return Measured(SeedMean(tuple(map(statistic, means))), units_of([str(c) for c in range(CASES)], ""), sign)


def world(lead_by_strength: dict[float, float], sign: int = 1) -> dict:
    """Pixels half-way between the anchors, plain V-JEPA ahead of them by so much."""
    found = {}
    for g, lead in lead_by_strength.items():
        means = {RANDOM: (0.2, 0.22), TUNED: (0.6,), "plain": (0.4 + lead, 0.42 + lead), "pixel": (0.4, 0.42)}
        found |= {(arm, "t", g): one(*m, sign=sign) for arm, m in means.items()}
    return found


def test_scores_lie_between_the_anchors_and_are_the_same_for_errors():
    for sign in (1, -1):
        made = scores(world({0.0: 0.0, 1.0: 0.1}, sign), ("plain", "pixel"), resamples=50)
        assert [curve.arm for curve in made.curves] == ["plain", "pixel"]
        np.testing.assert_allclose(made.curves[1].score_G, 100 * 0.2 / 0.39)
        np.testing.assert_allclose(made.curves[0].score_G, [100 * 0.2 / 0.39, 100 * 0.3 / 0.39])
        curve = made.curves[0]
        assert (curve.low_G <= curve.score_G).all()
        np.testing.assert_array_equal(curve.low_KxG, [curve.low_G], err_msg="one task is its own mean")
        np.testing.assert_array_equal(curve.high_KxG, [curve.high_G])


@pytest.mark.parametrize(("slope", "settled"), [(0.1, True), (-0.1, True), (0.0, False)])
def test_a_lead_that_grows_is_told_from_one_that_does_not(slope, settled):
    made = scores(world({g: slope * g for g in (0.0, 1.0, 2.0)}), ("plain", "pixel"), resamples=100)
    assert made.growth is not None
    assert made.growth.p is not None
    assert made.growth.value == pytest.approx(100 * slope / 0.39, abs=1e-9)
    assert (made.growth.p < 0.05) == settled


def test_seeds_that_disagree_widen_the_interval():
    agreeing, torn = world({0.0: 0.1}), world({0.0: 0.1})
    torn["plain", "t", 0.0] = one(0.3, 0.72)
    widths = [
        float(curve.high_G[0] - curve.low_G[0])
        for found in (agreeing, torn)
        for curve in scores(found, ("plain", "pixel"), resamples=200).curves
        if curve.arm == "plain"
    ]
    assert widths[1] > 3 * widths[0]


def test_pictures_of_one_operation_are_drawn_together_and_count_as_one():
    names = [f"set/{c // 3:03d}_{c % 3}" for c in range(CASES)]
    units = units_of(names, r"set/\d+")
    assert [list(unit) for unit in units[:2]] == [[0, 1, 2], [3, 4, 5]]
    assert len(units) == CASES // 3
    assert len(units_of(names, "elsewhere")) == len(units_of(names, "")) == CASES
    alike_C = np.repeat(NOISE_C[: CASES // 3], 3)
    column = SeedMean((lambda rows: float(alike_C[rows].mean()),))
    together, apart = Measured(column, units, 1), Measured(column, units_of(names, ""), 1)
    rng = np.random.default_rng(0)
    spread = [
        np.std([one.drawn(rng.integers(0, len(one.units), len(one.units)), np.zeros(1, int)) for _ in range(400)])
        for one in (together, apart)
    ]
    assert together.value() == apart.value()
    assert spread[0] > 1.4 * spread[1], "three pictures alike say no more than one"


def test_cases_are_drawn_alike_for_all_so_that_what_they_share_cancels():
    found = world({0.0: 0.1, 1.0: 0.1})
    noisy = {place: one(0.2 if place[0] == RANDOM else 0.4, noise=50.0) for place in found if place[0] != TUNED}
    noisy |= {place: one(0.6, noise=50.0) for place in found if place[0] == TUNED}
    curve = scores(noisy, ("plain", "pixel"), resamples=100).curves[0]
    np.testing.assert_allclose(curve.high_G - curve.low_G, 0, atol=1e-6)


def test_what_was_not_reached_is_no_number_and_no_anchor_no_score():
    found = world({0.0: 0.0, 1.0: 0.1, 2.0: 0.2})
    del found["plain", "t", 2.0]
    made = scores(found, ("plain", "pixel"), resamples=50)
    assert np.isnan(made.curves[0].score_G[2])
    assert np.isfinite(made.curves[0].score_G[:2]).all()
    assert made.growth is not None
    assert np.isfinite(made.growth.value)
    equal = {place: one(0.4) if place[0] == TUNED else each for place, each in found.items()}
    equal |= {place: one(0.4) for place in found if place[0] == RANDOM}
    flat = scores(equal, ("plain", "pixel"), resamples=10)
    assert np.isnan(flat.curves[1].score_G).all()
    assert flat.without == ("t",)
    without = {place: each for place, each in found.items() if place[0] != TUNED}
    assert scores(without, ("plain", "pixel"), resamples=10).curves == ()


def test_a_task_without_room_at_one_strength_is_in_no_mean():
    found = world({0.0: 0.0, 1.0: 0.1})
    found |= {(arm, "flat", g): one(0.4 if arm == TUNED and g else 0.2) for arm, _, g in list(found)}
    made = scores(found, ("plain", "pixel"), resamples=50)
    alone = scores(world({0.0: 0.0, 1.0: 0.1}), ("plain", "pixel"), resamples=50)
    assert made.without == ("flat",)
    np.testing.assert_array_equal(made.curves[0].score_G, alone.curves[0].score_G)
    assert made.growth == alone.growth
