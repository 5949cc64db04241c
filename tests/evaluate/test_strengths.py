"""Scores between two anchors: worked by hand, and what they do not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.evaluate.compare import strengths
from surgmotion_jax.evaluate.compare.seeds import Column, Run
from surgmotion_jax.evaluate.compare.strengths import ByOperation, Measured, by_operation, measured, scores
from surgmotion_jax.evaluate.tasks.task import Measure, mean_over, ratio_over

CASES = 30
NOISE_C = np.random.default_rng(5).normal(0, 0.02, CASES)


def one(*means: float, noise: float = 1.0, sign: int = 1) -> Measured:
    """A seed for each mean, over cases that differ alike for everybody."""

    value_C = noise * (NOISE_C - NOISE_C.mean())
    names = tuple(f"{c:02d}" for c in range(CASES))
    return Measured(names, sign * np.array([mean + value_C for mean in means]), np.ones((len(means), CASES)), sign)


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


class Means:
    """A task with a measure that is a mean over cases, and one that is not."""

    choice = ("dice", "")

    def measures(self, tables):
        value_C = [float(table["dice"][0]) for table in tables]
        worst = Measure("worst", "", lambda rows: float(np.nanmin(np.array(value_C)[rows])))
        return [
            Measure("dice", "", mean_over(value_C)),
            worst,
            Measure("root", "", ratio_over([1.0], [2.0], math.sqrt)),
        ]


@pytest.fixture
def column(monkeypatch):
    monkeypatch.setattr(strengths, "task_of_results", lambda fields: Means())
    values = {"s/01_1": 0.1, "s/01_2": 0.3, "s/02_1": 0.8, "s/03_1": np.nan}
    tables = {case: {"dice": np.array([value])} for case, value in values.items()}
    return Column("c", (Run("w", {}, tables),))


def test_pictures_of_one_operation_are_drawn_together(column):
    together, apart = by_operation(column, "dice", r"s/\d+"), by_operation(column, "dice")
    assert together == ByOperation(1, {"s/01": (pytest.approx(0.4), 2), "s/02": (0.8, 1), "s/03": (0.0, 0)})
    assert list(apart.sums) == list(column.cases)
    one_arm = measured([together, together])
    assert (one_arm.seeds, one_arm.operations) == (2, ("s/01", "s/02", "s/03"))
    assert one_arm.value() == measured([apart]).value() == pytest.approx(0.4)
    assert one_arm.drawn(np.array([0, 0]), np.array([1])) == pytest.approx(0.2)
    assert np.isnan(one_arm.drawn(np.array([2, 2]), np.array([0]))), "an operation of which nothing is known"
    with pytest.raises(ValueError, match=r"operation='t/' matches nothing of the case 's/01_1'; it must match the beg"):
        by_operation(column, "dice", "t/")


def test_operations_pair_by_name_and_those_tested_elsewhere_are_refused():
    forth = {"a": (0.1, 1.0), "b": (0.3, 1.0)}
    back = dict(reversed(forth.items()))
    for one in (forth, back):
        np.testing.assert_array_equal(measured([ByOperation(1, one)]).sum_SxU, [[0.1, 0.3]])
    found = world({0.0: 0.0})
    found["plain", "t", 0.0] = measured([ByOperation(1, forth)])
    with pytest.raises(
        ValueError, match="arms and strengths of t were tested on different operations; not in both are"
    ):
        scores(found, ("plain", "pixel"), resamples=5)


def test_what_is_no_mean_over_cases_and_what_was_tested_elsewhere_cannot_be_counted(column):
    for name in ("worst", "root"):
        with pytest.raises(ValueError, match=f"c: {name} is no mean over cases, .*; name another measure, as dice$"):
            by_operation(column, name)
    with pytest.raises(ValueError, match="c: has no iou; there are dice, worst, root"):
        by_operation(column, "iou")
    with pytest.raises(ValueError, match="seeds were tested on different operations; not in both are b"):
        measured([ByOperation(1, {"a": (1.0, 1)}), ByOperation(1, {"a": (1.0, 1), "b": (1.0, 1)})])


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
