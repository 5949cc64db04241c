"""Binary segmentation: overlap image by image. Letters: B images, H and W pixels, V cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, segmentation, unweighted
from surgmotion_jax.evaluate.metrics.overlap import dice_and_iou, over_thresholds
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, ratio_over, require_tables

MEASURES = {
    "dice": "mean over images, threshold 0.5, at the size the encoder sees",
    "iou": "mean over images, threshold 0.5, at the size the encoder sees",
    "dice_thresholds": "mean over images and 256 thresholds, at the size the encoder sees",
    "iou_thresholds": "mean over images and 256 thresholds, at the size the encoder sees",
}


@dataclass(frozen=True)
class SegmentationTask:
    """One mask an image."""

    family: str = "segmentation"
    choice: tuple[str, str] = ("dice", MEASURES["dice"])

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        del truth
        return unweighted(segmentation(), class_weights, "mask and background are balanced by its Dice term")

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        rows = []
        for score_HxW, label_HxW, valid_HxW in zip(prediction, truth["label"], truth["mask"], strict=True):
            label, score = label_HxW[valid_HxW], score_HxW[valid_HxW]
            rows.append((*dice_and_iou(label, score), *over_thresholds(label, score)))
        values = np.array(rows, np.float64).reshape(-1, len(MEASURES))
        return {name: values[:, column] for column, name in enumerate(MEASURES)}

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        counts = [len(table["dice"]) for table in tables]
        sums = {name: [float(table[name].sum()) for table in tables] for name in MEASURES}
        return [Measure(name, words, ratio_over(sums[name], counts, float)) for name, words in MEASURES.items()]
