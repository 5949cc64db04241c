"""A step of all heads of a sweep on features drawn at random, to be timed."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from surgmotion_jax.evaluate.config import Grid
from surgmotion_jax.evaluate.heads import targets
from surgmotion_jax.evaluate.heads.networks import Head, make_head
from surgmotion_jax.evaluate.heads.sweep import Batch, Sweep, SweepSettings
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

STEPS = 1000  # of the schedule; more than are ever taken
CLASSES = ("cut", "clip", "clean")
WEIGHT_DECAYS = (0.0, 0.1, 0.2, 0.3)


def grid_of(heads: int) -> Grid:
    """So many heads, four weight decays to a learning rate."""
    return Grid(tuple(np.geomspace(1e-2, 1e-4, heads // len(WEIGHT_DECAYS)).tolist()), WEIGHT_DECAYS)


def features_of(rows: int, tokens: int, width: int) -> Batch:
    """Random features and labels."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(rows, tokens, width)).astype(np.float32)
    return Batch(features, rng.integers(0, len(CLASSES), rows), np.ones(rows, bool))


class SweepClock:
    """A sweep of attentive heads, prepared; calling it takes a step of all heads and returns its seconds."""

    def __init__(self, config: ProbeConfig, grid: Grid, batch: Batch, strategy: str) -> None:
        head = quick(make_head("attentive", config))
        objective = targets.classification(np.arange(len(CLASSES)), CLASSES)
        layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
        self.sweep = Sweep(head, objective, SweepSettings(STEPS, grid, strategy=strategy), layout)
        self.group = self.sweep.prepare(batch).group
        self.groups, self.batch, self.losses = self.sweep.init(), batch, np.zeros(0)

    def __call__(self) -> float:
        start = time.perf_counter()
        self.groups, losses = self.sweep.step(self.groups, self.batch)
        jax.block_until_ready(self.groups)
        seconds = time.perf_counter() - start
        self.losses = np.asarray(losses)
        return seconds


def quick(head: Head) -> Head:
    """The head with all its parameters drawn by one call: a tenth of the compilation."""
    leaves, tree = jax.tree.flatten(jax.eval_shape(head.init, jax.random.key(0)))
    ends = np.cumsum([leaf.size for leaf in leaves])

    def init(key: jax.Array) -> Any:
        parts = jax.numpy.split(jax.random.normal(key, (ends[-1],), leaves[0].dtype) / 5, ends[:-1])
        return jax.tree.unflatten(tree, [p.reshape(leaf.shape) for p, leaf in zip(parts, leaves, strict=True)])

    return dataclasses.replace(head, init=init)
