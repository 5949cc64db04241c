"""Action recognition: one class a clip, all clips pooled. Letters: C classes, N clips, V cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, classification
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.metrics.phases import SCORES, class_scores, confusion
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, ratio_over, require_tables
from surgmotion_jax.evaluate.tasks.workflow import class_columns, class_ids

CONVENTIONS = {
    "present": "all clips pooled; classes present in the ground truth",
    "union": "all clips pooled; classes in ground truth or prediction",
}
TOP = 5


@dataclass(frozen=True)
class ActionTask:
    """Classes of clips."""

    classes: tuple[str, ...]
    family: str = "action"
    choice: tuple[str, str] = ("f1", CONVENTIONS["present"])

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        return classification(truth["label"], self.classes, class_weights)

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        return class_columns(prediction, truth)

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        confusions_VxCxC = np.stack([confusion(*class_ids(table), len(self.classes)) for table in tables])
        counts = confusions_VxCxC.sum((1, 2))
        hits = [np.trace(each) for each in confusions_VxCxC]
        found = [Measure("accuracy", "all clips pooled", ratio_over(hits, counts, float))]
        for rule, words in CONVENTIONS.items():
            found += [Measure(name, words, _pooled(confusions_VxCxC, rule, name)) for name in SCORES]
        if len(self.classes) > TOP:
            top = [self._top(table) for table in tables]
            found.append(Measure(f"top_{TOP}_accuracy", "all clips pooled", ratio_over(top, counts, float)))
        return found

    def _top(self, table: Table) -> int:
        """Clips whose class is among the most probable; of equals the lower number counts."""
        scores_NxC = np.stack([table[f"p{number}"] for number in range(len(self.classes))], axis=1)
        best_NxK = np.argsort(-scores_NxC, axis=1, kind="stable")[:, :TOP]
        return int((best_NxK == class_ids(table)[0][:, None]).any(1).sum())


def _pooled(confusions_VxCxC: np.ndarray, rule: str, name: str) -> Statistic:
    return lambda rows: float(np.nanmean(class_scores(confusions_VxCxC[rows].sum(0), rule)[name]))
