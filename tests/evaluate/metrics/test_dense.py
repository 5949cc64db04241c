"""Skill, overlap and depth metrics by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.metrics import depth, overlap, skill


def test_spearman_by_hand_with_ties():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: Pearson of the ranks.
    assert skill.spearman(np.array([6, 9, 9, 20]), np.array([1.0, 2, 3, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert skill.mean_absolute_error(np.array([6, 30]), np.array([8.0, 29.0])) == 1.5


def test_undefined_correlations_are_nan_and_leave_the_mean_undefined():
    assert np.isnan(skill.spearman(np.array([7, 7, 7]), np.array([1.0, 2, 3])))
    assert np.isnan(skill.spearman(np.array([7]), np.array([1.0])))
    assert np.isnan(skill.fisher_mean([0.3, float("nan"), 0.3]))
    assert skill.fisher_mean([0.9, 0.0]) == pytest.approx(np.tanh(np.arctanh(0.9) / 2))
    assert np.isnan(skill.fisher_mean([]))
    assert skill.fisher_mean([1.0]) == pytest.approx(1.0)


def test_dice_and_iou_by_hand():
    truth = np.array([[1, 1, 0, 0]])
    assert overlap.dice_and_iou(truth, np.array([[0.9, 0.1, 0.6, 0.2]])) == (0.5, pytest.approx(1 / 3))
    assert overlap.dice_and_iou(np.zeros((2, 2)), np.zeros((2, 2))) == (1.0, 1.0)
    assert overlap.dice_and_iou(np.zeros((2, 2)), np.ones((2, 2))) == (0.0, 0.0)


def test_threshold_mean_equals_a_loop():
    rng = np.random.default_rng(0)
    truth, score = rng.random((12, 9)) < 0.4, rng.random((12, 9))
    each = [overlap.dice_and_iou(truth, score, k / 256) for k in range(256)]
    assert overlap.over_thresholds(truth, score) == pytest.approx(tuple(np.mean(each, axis=0)), abs=1e-9)


def test_depth_by_hand():
    truth, prediction = np.array([[10.0, 20.0, 0.0]]), np.array([[11.0, 16.0, 5.0]])
    found = depth.pooled([depth.depth_sums(truth, prediction, truth > 0)])
    assert found == pytest.approx(
        {
            "abs_rel": (0.1 + 0.2) / 2,
            "sq_rel": (0.1 + 0.8) / 2,
            "rmse": np.sqrt((1 + 16) / 2),
            "rmse_log": np.sqrt((np.log(1.1) ** 2 + np.log(0.8) ** 2) / 2),
            "delta_1.1": 0.0,  # 11 / 10 is the threshold itself, which is not below it
            "delta_1.25": 0.5,  # and so is 20 / 16
            "delta_1.562": 1.0,
            "delta_1.953": 1.0,
        },
        abs=1e-9,
    )


def test_pooled_weighs_pixels_and_per_image_weighs_images():
    rng = np.random.default_rng(0)
    images = []
    for size in (3, 30):
        truth = rng.uniform(5, 50, (size, size))
        images.append(depth.depth_sums(truth, truth * (1 + size / 100), np.ones_like(truth, bool)))
    assert depth.per_image(images)["abs_rel"] == pytest.approx((0.03 + 0.3) / 2)
    assert depth.pooled(images)["abs_rel"] == pytest.approx((9 * 0.03 + 900 * 0.3) / 909)


def test_median_scaling_removes_a_factor():
    truth = np.random.default_rng(0).uniform(5, 50, (8, 8))
    valid = np.ones_like(truth, bool)
    np.testing.assert_allclose(depth.median_scaled(truth, 3 * truth, valid), truth)


def test_depths_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match=r"predicted depth of valid pixels spans 0.0..1.0; depths must be positive"):
        depth.depth_sums(np.ones((1, 2)), np.array([[0.0, 1.0]]), np.ones((1, 2), bool))


def test_no_valid_pixel_is_undefined():
    empty = depth.depth_sums(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2), bool))
    assert np.isnan(depth.pooled([empty])["rmse"])
    assert np.isnan(depth.per_image([empty])["rmse"])
