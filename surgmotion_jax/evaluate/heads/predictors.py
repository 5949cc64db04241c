"""Every candidate of an evaluation, asked at once: the heads of a sweep, or nearest neighbours for several k.

Letters: H candidates, B moments, N moments of a video.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.features.cache import Features, ordered
from surgmotion_jax.evaluate.features.windows_of_cases import Position, in_order, padded
from surgmotion_jax.evaluate.heads.fit import TrainingSet
from surgmotion_jax.evaluate.heads.knn import nearest_neighbours, one_hot
from surgmotion_jax.evaluate.heads.networks import Head
from surgmotion_jax.evaluate.heads.of_tasks import as_head_input
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.evaluate.tasks.families import Truths
from surgmotion_jax.evaluate.tasks.task import Table, Task
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.probe import ProbeConfig

MOST_WEIGHTS = 2**32  # of tokens to tokens, over rows and attention heads: 16 GiB
BUCKET = 256  # moments: videos are filled up to a multiple, so that few programs are compiled

Tables = list[list[Table]]
"""[H][V]: a table a candidate and case."""


class Predictor(Protocol):
    """Predictions of all candidates."""

    names: tuple[str, ...]  # [H]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[H,B,...] from features [B, *shape]: of any moments, or of a whole video for temporal heads."""


class HeadPredictor:
    """The heads of a sweep. Their parameters lie on the device; they run one after the other, in the memory of one."""

    def __init__(self, head: Head, objective: Objective, params: Params, names: Sequence[str]) -> None:
        self.names, self._head, self._params = tuple(names), head, jax.device_put(params)

        def all_heads(params: Params, features: jax.Array, valid: jax.Array | None) -> jax.Array:
            return jax.lax.map(lambda one: objective.predict(head.apply(one, features, valid)), params)

        self._run: Callable[..., jax.Array] = jax.jit(all_heads)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        if self._head.name != "temporal":
            features = as_head_input(self._head.name, rows)
            step = rows_at_a_time(self._head, features.shape)
            parts = [features] if step >= len(rows) else np.split(features, range(step, len(rows), step))
            return np.concatenate([self._run(self._params, part, None) for part in parts], axis=1)
        count = len(rows)
        length = -(-count // BUCKET) * BUCKET
        valid_1xN = np.arange(length)[None] < count
        return np.asarray(self._run(self._params, padded(rows, length)[None], valid_1xN))[:, 0, :count]


def rows_at_a_time(head: Head, shape: Sequence[int]) -> int:
    """How many moments to score at once: fewer where all tokens attend to all and the weights are kept whole."""
    config = head.config
    if not isinstance(config, ProbeConfig) or config.attention != "xla" or config.depth == 1:
        return max(shape[head.batch_axis], 1)
    return max(1, MOST_WEIGHTS // (config.heads * shape[1] ** 2))


class NeighbourPredictor:
    """Cosine nearest neighbours among the training moments, for several numbers of neighbours."""

    def __init__(self, data: TrainingSet, classes: int, neighbours: Sequence[int]) -> None:
        positions = list(data.positions)
        label = data.truths.rows(positions)["label"]
        self._bank = data.features.rows(positions)
        self._scores = label.dtype.kind == "f"
        self._target = label[:, None] if self._scores else label if label.ndim > 1 else one_hot(label, classes)
        self._neighbours = tuple(sorted({min(k, len(positions)) for k in neighbours}))
        self.names = tuple(f"k={k}" for k in self._neighbours)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        found = [nearest_neighbours(self._bank, self._target, rows, k=k) for k in self._neighbours]
        return np.stack(found)[..., 0] if self._scores else np.stack(found)


def predict_tables(
    predictor: Predictor, task: Task, cases: Sequence[Case], features: Features, truths: Truths, batch: int, whole: bool
) -> Tables:
    """A table of every candidate and case, every moment of every case exactly once and in order.

    `whole`: the predictor takes a video at a time. Raises ValueError for truth that cannot be read.
    """
    positions = in_order(cases)
    ends = np.cumsum([len(case.times_N) for case in cases]).tolist()
    starts = [0, *ends[:-1]]
    videos = [positions[start:end] for start, end in zip(starts, ends, strict=True)]
    chunks = videos if whole else [positions[start : start + batch] for start in range(0, len(positions), batch)]
    parts: list[list[Table]] = [[] for _ in predictor.names]
    with contextlib.closing(ordered(features, chunks)) as found:
        for chunk, rows in found:
            prediction_HxB = predictor(rows if whole else padded(rows, batch))[:, : len(chunk)]
            truth = truths.rows(chunk)
            for part, prediction in zip(parts, prediction_HxB, strict=True):
                part.append(task.columns(prediction, truth))
    wholes = [joined(part) for part in parts]
    assert all(len(column) == len(positions) for table in wholes for column in table.values()), "a moment was lost"
    return [
        [{name: column[a:b] for name, column in table.items()} for a, b in zip(starts, ends, strict=True)]
        for table in wholes
    ]


def joined(chunks: Sequence[Table]) -> Table:
    """Rows of several tables, one after the other."""
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def spread(positions: Sequence[Position], most: int) -> tuple[Position, ...]:
    """At most `most` of the positions, evenly spaced; all where `most` is 0."""
    if not most or len(positions) <= most:
        return tuple(positions)
    return tuple(positions[i] for i in np.linspace(0, len(positions) - 1, most).round().astype(int))
