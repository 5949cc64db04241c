"""Skill assessment: one score a trial; error over all trials, rank correlation task by task. Letters: V trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, regression, unweighted
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.metrics.skill import fisher_mean, mean_absolute_error, spearman
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, require_tables

UNDEFINED = "all true or all predicted scores of the task are equal, or it has fewer than 4 trials"
FEWEST = 4  # trials of a task: below, ranks of chance agree perfectly too often, and Fisher's z has no variance


@dataclass(frozen=True)
class SkillTask:
    """Scores of trials of several surgical tasks."""

    tasks: tuple[str, ...]
    family: str = "skill"
    choice: tuple[str, str] = ("mae", "points of the scale, over all trials")

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        return unweighted(regression(truth["label"]), class_weights, "scores have no classes")

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        return {
            "truth": truth["label"].astype(np.float64),
            "predicted": prediction.reshape(-1).astype(np.float64),
            "task": truth["task"].astype(np.int64),
        }

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        columns = ("truth", "predicted", "task")
        truth_V, predicted_V, task_V = (np.concatenate([table[name] for table in tables]) for name in columns)

        ends = np.cumsum([len(table["truth"]) for table in tables])
        trials_of = np.split(np.arange(len(truth_V)), ends[:-1])

        def drawn(rows: np.ndarray) -> np.ndarray:
            return np.concatenate([trials_of[row] for row in rows])

        def error(rows: np.ndarray) -> float:
            trials = drawn(rows)
            return mean_absolute_error(truth_V[trials], predicted_V[trials])

        def correlation(number: int) -> Statistic:
            def statistic(rows: np.ndarray) -> float:
                trials = drawn(rows)
                of_task = trials[task_V[trials] == number]
                return spearman(truth_V[of_task], predicted_V[of_task]) if len(of_task) >= FEWEST else float("nan")

            return statistic

        present = [number for number in range(len(self.tasks)) if (task_V == number).any()]
        each = [correlation(number) for number in present]

        defined = [statistic for statistic in each if np.isfinite(statistic(np.arange(len(tables))))]

        def mean(rows: np.ndarray) -> float:
            """Over the same tasks for every draw: one that leaves a task undefined has no mean."""
            return fisher_mean([statistic(rows) for statistic in defined])

        found = [Measure("mae", self.choice[1], error, higher=False)]
        for number, statistic in zip(present, each, strict=True):
            found.append(
                Measure(f"spearman_{self.tasks[number]}", "over the trials of the task", statistic, why=UNDEFINED)
            )
        found.append(Measure("spearman", "mean over tasks through Fisher's z", mean, why=UNDEFINED))
        return found
