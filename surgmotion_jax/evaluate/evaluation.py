"""What every stage of an evaluation reads: settings, cases, their features and truth, and where files go."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from etils import epath

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.cohort import Cohort
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.of_cohort import CohortFeatures, Say
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader
from surgmotion_jax.evaluate.heads.predictors import Predictor, Tables, predict_tables
from surgmotion_jax.evaluate.tasks.families import Truths, make_task
from surgmotion_jax.evaluate.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation, with one set of cases."""

    config: EvaluateConfig
    cohort: Cohort
    features: CohortFeatures
    workdir: epath.Path
    say: Say  # told what happens

    @functools.cached_property
    def task(self) -> Task:
        """The definitions of the benchmark's family."""
        return make_task(self.cohort.benchmark, self.cohort.contents)

    def truths(self, cases: Sequence[Case]) -> Truths:
        """What is known of the cases' moments."""
        return Truths(self.cohort.benchmark, cases, WindowReader(self.config.data))

    def tables(self, predictor: Predictor, cases: Sequence[Case], labelled: Sequence[Case]) -> Tables:
        """Tables of every candidate; frames are those of `cases`, labels those of `labelled`."""
        whole, batch = self.config.probe.head == "temporal", self.config.cache.batch
        features, truths = self.features.of(cases), self.truths(labelled)
        return predict_tables(predictor, self.task, cases, features, truths, batch, whole)
