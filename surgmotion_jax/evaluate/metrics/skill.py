"""Metrics of predicted skill scores, one per trial."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

_NEARLY_ONE = 1 - 1e-12  # a perfect correlation has no finite Fisher z


def mean_absolute_error(truth_V: np.ndarray, prediction_V: np.ndarray) -> float:
    """In points of the scale."""
    return float(np.mean(np.abs(np.asarray(truth_V, np.float64) - prediction_V)))


def spearman(truth_V: np.ndarray, prediction_V: np.ndarray) -> float:
    """Rank correlation over trials; NaN where either side is constant or there are fewer than 2 trials."""
    if len(truth_V) < 2 or np.ptp(truth_V) == 0 or np.ptp(prediction_V) == 0:
        return float("nan")
    return float(stats.spearmanr(truth_V, prediction_V).statistic)


def fisher_mean(correlation_K: Sequence[float]) -> float:
    """Mean of correlations over tasks through Fisher's z; NaN without any, or where one is undefined."""
    if not len(correlation_K):
        return float("nan")
    return float(np.tanh(np.mean(np.arctanh(np.clip(correlation_K, -_NEARLY_ONE, _NEARLY_ONE)))))
