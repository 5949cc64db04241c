"""What a frame shows: any number of classes, scored video by video. Letters: N frames, K classes, V videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, presence, unweighted
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.metrics.triplets import video_average_precision, video_wise
from surgmotion_jax.evaluate.tasks.several import several_arrays, several_columns
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, mean_over, require_tables

WORDS = "video-wise AP, classes absent from a video left out, mean over videos then classes"
OF_CLASS = "video-wise AP, mean over the videos that show it"
COUNTED = "all moments pooled, threshold 0.5, mean over classes in ground truth or prediction"
CHANCE = "share of the frames that show a class, the same means as of mAP: the AP of scores that say nothing"


@dataclass(frozen=True)
class PresenceTask:
    """Classes of which any number may be there."""

    classes: tuple[str, ...]
    family: str = "presence"
    choice: tuple[str, str] = ("mAP", WORDS)

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        why = "each class has a loss of its own, in which no class competes with another"
        return unweighted(presence(truth["label"], self.classes), class_weights, why)

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        return several_columns(prediction, truth["label"])

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        labels, scores = zip(*(several_arrays(table, len(self.classes)) for table in tables), strict=True)
        precision_VxK = np.stack([video_average_precision(*pair) for pair in zip(labels, scores, strict=True)])
        shares_VxK = np.stack([np.where(label.any(0), label.mean(0), np.nan) for label in labels])
        counts_VxKx3 = np.stack([_counts(*pair) for pair in zip(labels, scores, strict=True)])
        absent = "no test video shows it"
        found = [
            Measure("mAP", WORDS, _video_wise(precision_VxK), why="no test video shows a class"),
            Measure("mAP_chance", CHANCE, _video_wise(shares_VxK), why="no test video shows a class"),
            Measure("f1", COUNTED, _f1(counts_VxKx3), why="no class is in ground truth or prediction"),
        ]
        for k, name in enumerate(self.classes):
            found.append(Measure(f"AP_{name}", OF_CLASS, mean_over(precision_VxK[:, k].tolist()), why=absent))
        return found


def _video_wise(value_VxK: np.ndarray) -> Statistic:
    return lambda rows: video_wise(value_VxK[rows])[0]


def _counts(label_NxK: np.ndarray, score_NxK: np.ndarray) -> np.ndarray:
    """[K,3]: frames in which a class is found rightly, is in the truth, is in the prediction."""
    predicted_NxK = score_NxK >= 0.5
    return np.stack([(label_NxK & predicted_NxK).sum(0), label_NxK.sum(0), predicted_NxK.sum(0)], axis=1)


def _f1(counts_VxKx3: np.ndarray) -> Statistic:
    def statistic(rows: np.ndarray) -> float:
        hits_K, true_K, predicted_K = counts_VxKx3[rows].sum(0).T
        either_K = (true_K + predicted_K) > 0
        return float(np.mean(2 * hits_K[either_K] / (true_K + predicted_K)[either_K])) if either_K.any() else np.nan

    return statistic
