"""Workflow recognition: one phase a moment, scored video by video. Letters: B moments, C classes, V videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, classification
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.metrics.phases import SCORES, confusion, pooled_scores, video_scores
from surgmotion_jax.evaluate.metrics.segments import edit_score, segmental_f1
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, mean_over, require_tables

OVERLAPS = (0.1, 0.25, 0.5)


@dataclass(frozen=True)
class WorkflowTask:
    """Phases of a benchmark."""

    classes: tuple[str, ...]
    fps: float = 1.0  # scored moments a second; only the relaxed convention needs it
    relaxed: bool = False  # whether to report the relaxed convention of Cholec80's seven phases too
    family: str = "workflow"
    choice: tuple[str, str] = ("f1", "mean over videos; classes present in the ground truth")

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        return classification(truth["label"], self.classes, class_weights)

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        return class_columns(prediction, truth)

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        pairs = [class_ids(table) for table in tables]
        found = self._per_video(pairs, "present", "mean over videos; classes present in the ground truth")
        found += self._per_video(pairs, "union", "mean over videos; classes in ground truth or prediction")[1:]
        if self.relaxed:
            found += self._per_video(pairs, "relaxed", "mean over videos; relaxed by 10 s at boundaries (M2CAI)")
        confusions_VxCxC = np.stack([confusion(truth, predicted, len(self.classes)) for truth, predicted in pairs])
        for name in ("accuracy", *SCORES):
            convention = "all moments pooled; classes present in the ground truth"
            found.append(Measure(name, convention, _pooled(confusions_VxCxC, name)))
        edits = [edit_score(truth, predicted) for truth, predicted in pairs]
        found.append(Measure("edit_score", "mean over videos", mean_over(edits)))
        for overlap in OVERLAPS:
            scores = [segmental_f1(truth, predicted, overlap) for truth, predicted in pairs]
            found.append(Measure(f"segmental_f1_{overlap:.2f}", "mean over videos", mean_over(scores)))
        return found

    def _per_video(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], rule: str, words: str) -> list[Measure]:
        scores = [video_scores(truth, predicted, len(self.classes), rule, self.fps) for truth, predicted in pairs]
        return [Measure(name, words, mean_over([score[name] for score in scores])) for name in ("accuracy", *SCORES)]


def class_columns(prediction_BxC: np.ndarray, truth: Truth) -> Table:
    """Truth, the most probable class, and the probability of each."""
    columns = {"truth": truth["label"].astype(np.int64), "predicted": prediction_BxC.argmax(-1)}
    return columns | {f"p{number}": prediction_BxC[:, number] for number in range(prediction_BxC.shape[1])}


def class_ids(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(truth, prediction) of a table, whole numbers also where they come from text."""
    return table["truth"].astype(np.int64), table["predicted"].astype(np.int64)


def _pooled(confusions_VxCxC: np.ndarray, name: str) -> Statistic:
    return lambda rows: pooled_scores(confusions_VxCxC[rows])[name]
