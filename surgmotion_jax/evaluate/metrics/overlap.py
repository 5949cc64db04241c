"""Metrics of binary segmentation, one image at a time."""

from __future__ import annotations

import numpy as np

THRESHOLDS = 256


def dice_and_iou(truth_HxW: np.ndarray, score_HxW: np.ndarray, threshold: float = 0.5) -> tuple[float, float]:
    """Dice and IoU of `score >= threshold`; both are 1 where truth and prediction are empty."""
    truth, predicted = np.asarray(truth_HxW, bool), score_HxW >= threshold
    shared, total = np.count_nonzero(truth & predicted), np.count_nonzero(truth) + np.count_nonzero(predicted)
    return (2 * shared / total, shared / (total - shared)) if total else (1.0, 1.0)


def over_thresholds(truth_HxW: np.ndarray, score_HxW: np.ndarray) -> tuple[float, float]:
    """Dice and IoU averaged over the thresholds k / 256, k = 0..255, as some papers report them."""
    truth = np.asarray(truth_HxW, bool).reshape(-1)
    level = np.clip(np.floor(score_HxW.reshape(-1) * THRESHOLDS), 0, THRESHOLDS - 1).astype(int)
    predicted = np.bincount(level, minlength=THRESHOLDS)[::-1].cumsum()[::-1]
    shared = np.bincount(level[truth], minlength=THRESHOLDS)[::-1].cumsum()[::-1]
    total = truth.sum() + predicted
    empty = total == 0
    dice = np.where(empty, 1.0, 2 * shared / np.maximum(total, 1))
    iou = np.where(empty, 1.0, shared / np.maximum(total - shared, 1))
    return float(dice.mean()), float(iou.mean())
