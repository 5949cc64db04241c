"""Action triplets: average precision video by video for the six components. Letters: B, N frames, C triplets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.evaluate.heads.targets import Objective, triplets, unweighted
from surgmotion_jax.evaluate.metrics.bootstrap import Statistic
from surgmotion_jax.evaluate.metrics.triplets import COMPONENTS, component_scores, video_wise
from surgmotion_jax.evaluate.tasks.several import several_arrays, several_columns
from surgmotion_jax.evaluate.tasks.task import Measure, Table, Truth, ratio_over, require_tables

PARTS = ("instrument", "verb", "target")
TOPS = (5, 10, 20)
WORDS = "video-wise AP, classes absent from a video left out, mean over videos then classes; components by maximum"


@dataclass(frozen=True, eq=False)
class TripletTask:
    """Triplets of a benchmark; row k of the table is the instrument, verb and target of triplet k."""

    classes: tuple[str, ...]
    triplets_Cx3: np.ndarray
    family: str = "triplet"
    choice: tuple[str, str] = ("mAP_IVT", WORDS)

    def objective(self, truth: Truth, class_weights: str) -> Objective:
        why = "each triplet has a loss of its own, in which no class competes with another"
        return unweighted(triplets(self.triplets_Cx3, truth["label"], names=self.classes), class_weights, why)

    def columns(self, prediction: np.ndarray, truth: Truth) -> Table:
        """The true triplets, as `t3 t17`, and the score of each triplet."""
        return several_columns(prediction[:, : len(self.classes)], truth["label"])  # those of components help training

    def measures(self, tables: Sequence[Table]) -> list[Measure]:
        require_tables(tables)
        labels, scores = zip(*(self.arrays(table) for table in tables), strict=True)
        found = []
        for component in COMPONENTS:
            precision_VxK = component_scores(labels, scores, self.triplets_Cx3, component)
            found.append(Measure(f"mAP_{component}", WORDS, _mean(precision_VxK), why="no test video shows a class"))
        counts = [int(label.sum()) for label in labels]
        for k in TOPS:
            if k < len(self.classes):
                hits = [_hits(label, score, k) for label, score in zip(labels, scores, strict=True)]
                words = "all frames pooled; share of true triplets among the highest scores"
                found.append(Measure(f"top_{k}_accuracy", words, ratio_over(hits, counts, float)))
        return found

    def arrays(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """(0/1 labels [N,C], scores [N,C]) of a table."""
        return several_arrays(table, len(self.classes))


def parts_of(classes: Mapping[str, Sequence[str]]) -> np.ndarray:
    """[C,3] from the names of triplets, `instrument,verb,target`, and of their parts. Raises ValueError otherwise."""
    rows = []
    for name in classes["triplet"]:
        words = [word.strip() for word in name.split(",")]
        if len(words) != len(PARTS) or any(w not in classes[part] for w, part in zip(words, PARTS, strict=True)):
            raise ValueError(f"triplet {name!r} is not instrument,verb,target by the names of the data set's classes")
        rows.append([list(classes[part]).index(word) for word, part in zip(words, PARTS, strict=True)])
    return np.array(rows)


def _mean(precision_VxK: np.ndarray) -> Statistic:
    return lambda rows: video_wise(precision_VxK[rows])[0]


def _hits(label_NxC: np.ndarray, score_NxC: np.ndarray, k: int) -> int:
    """True triplets among the k highest scores of their frame; of equals the lower number counts."""
    best_Nxk = np.argsort(-score_NxC, axis=1, kind="stable")[:, :k]
    return int(np.take_along_axis(label_NxC, best_Nxk, 1).sum())
