"""What is reached without looking: the mean of the training truth. Letters: B moments, N training moments."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.evaluate.heads.knn import one_hot
from surgmotion_jax.evaluate.tasks.task import Truth


class ConstantPredictor:
    """A `Predictor` of one candidate: shares of classes, the mean score, or the mean mask or depth of each pixel."""

    names: tuple[str, ...] = ("mean of the training truth",)

    def __init__(self, truth: Truth, classes: int) -> None:
        label_N = truth["label"]
        if label_N.ndim == 1 and label_N.dtype.kind != "f":
            label_N = one_hot(label_N, classes)
        known = truth["mask"].reshape(*truth["mask"].shape, *[1] * (label_N.ndim - truth["mask"].ndim))
        total, count = np.where(known, label_N, 0).astype(np.float64).sum(0), known.sum(0)
        self._mean = (total / np.maximum(count, 1)).astype(np.float32)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[1,B,...], whatever the features."""
        return np.broadcast_to(self._mean, (1, len(rows), *self._mean.shape))
