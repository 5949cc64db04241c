"""A frozen probe: how well do pooled features of a run's encoder tell the classes of a labelled set apart?

It is a gauge of a run, not an evaluation: few windows, no tuning, validation cases only. Test cases are left alone.
Letters: B windows of a batch, N training windows, M validation windows, T frames, S side, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents
from surgmotion_jax.benchmarks.splits import hold_out_cases
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.models.pixels import normalise_pixels, unit_pixels
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.state import abstract_state, shardings_of

Vote = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""(bank [N,D], one-hot classes [N,K], queries [M,D], neighbours) -> class shares [M,K]."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Chosen scored moments of the cases of a split, and their classes."""

    cases: tuple[Case, ...]
    rows_Nx2: np.ndarray  # int64: number of the case, number of the moment in it
    label_N: np.ndarray  # int64 class ids


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """What is probed: windows of training cases, windows of validation cases, the names of the classes."""

    name: str
    classes: tuple[str, ...]
    train: Moments
    val: Moments

    @property
    def text(self) -> str:
        """For the banner."""
        parts = [
            f"{len(m.label_N)} {split} windows of {len(m.cases)} cases"
            for split, m in (("training", self.train), ("validation", self.val))
        ]
        return (
            f"{self.name}: {' and '.join(parts)}, {len(np.unique(self.train.label_N))} of {len(self.classes)} classes"
        )


def choose(contents: Contents, benchmark: Benchmark, label: str, windows: int) -> ProbeSet:
    """The moments to probe, at most `windows` of each split, evenly spaced.

    Validation cases are the benchmark's, or drawn from the training cases where there are none on disk. Raises
    ValueError for a label that is not one class a moment, fewer than two cases, or windows of one class only.
    """
    name = label or benchmark.label
    if name not in contents.classes:
        known = ", ".join(contents.classes) or "none"
        raise ValueError(
            f"probe.label {name!r} of {benchmark.name} is not one class a moment (its labels with classes: {known}); "
            "choose one of them with --config.probe.label, or another benchmark."
        )
    train, val = (_usable(contents.cases.get(split, ()), name) for split in ("train", "val"))
    if not train or not val:
        train, val = _split(benchmark, name, train + val)
    found = ProbeSet(benchmark.name, contents.classes[name], _spread(train, name, windows), _spread(val, name, windows))
    for split, moments in (("training", found.train), ("validation", found.val)):
        present = np.unique(moments.label_N)
        if len(present) < 2:
            raise ValueError(
                f"the {split} windows of probe.benchmark {benchmark.name!r} all show one class "
                f"({found.classes[present[0]]}), so there is nothing to tell apart; add cases with other classes, "
                "raise probe.windows, or choose another probe.label."
            )
    return found


def _usable(cases: Sequence[Case], label: str) -> tuple[Case, ...]:
    for case in cases:
        if case.labels[label].ndim != 1 or not np.issubdtype(case.labels[label].dtype, np.integer):
            raise ValueError(
                f"probe.label {label!r} of case {case.id!r} has shape {case.labels[label].shape} and dtype "
                f"{case.labels[label].dtype}; a probe needs one class id a moment: choose another probe.label."
            )
    return tuple(case for case in cases if len(case.times_N))


def _split(benchmark: Benchmark, label: str, cases: tuple[Case, ...]) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    groups = {case.group for case in cases}
    if len(groups) < 2:
        raise ValueError(
            f"probe.benchmark {benchmark.name!r} has {len(groups)} training or validation cases under probe.root; a "
            "probe needs at least two, one to learn from and one to be judged on. Test cases are not used."
        )
    whole = all(len(np.unique(case.labels[label])) == 1 for case in cases)  # a class a case: draw within classes
    parts = hold_out_cases(cases, stratify=label if whole else None)
    if not parts["val"]:
        parts = hold_out_cases(cases)
    return parts["train"], parts["val"]


def _spread(cases: tuple[Case, ...], label: str, most: int) -> Moments:
    """Moments spread evenly over the cases in order, and over the time of each."""
    rows = np.array([(number, row) for number, case in enumerate(cases) for row in range(len(case.times_N))])
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return Moments(cases, rows, np.array([cases[number].labels[label][row] for number, row in rows], np.int64))


PooledFeatures = Callable[[Mapping[str, object], jax.Array], jax.Array]  # encoder, windows -> [B,D]


def pooled_features(
    target: Params, video_BxTxSxSx3: jax.Array, *, config: PretrainConfig, layout: MeshLayout
) -> jax.Array:
    """Mean of an encoder's normalised tokens, [B,D] float32."""
    pixels = normalise_pixels(unit_pixels(video_BxTxSxSx3)).astype(config.model.dtype)
    tokens = backbone_of(config.model).encode(target, pixels, layout=layout).tokens
    return tokens.astype(jnp.float32).mean(1)


def compile_pooled_features(config: PretrainConfig, layout: MeshLayout) -> PooledFeatures:
    """`pooled_features` compiled ahead of time for windows of probe.batch, rows over the devices, result on each."""
    side, size = config.augment.crop, probe_batch(config)
    encoder = config.objective.source.evaluated(abstract_state(config, layout))
    shape = (size, config.data.frames, side, side, 3)
    video = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=layout.batch)  # type: ignore[arg-type]
    jitted = jax.jit(
        partial(pooled_features, config=config, layout=layout),
        in_shardings=(shardings_of(encoder), layout.batch),
        out_shardings=layout.replicated,
    )
    return jitted.lower(encoder, video).compile()


def probe_batch(config: PretrainConfig) -> int:
    """Windows encoded at a time."""
    return config.probe.batch or config.heldout.batch


def probe_metrics(
    train_NxD: np.ndarray, val_MxD: np.ndarray, found: ProbeSet, vote: Vote, neighbours: int, ridge: float
) -> dict[str, float]:
    """Accuracy and mean recall of both probes, beside those of always answering the commonest training class."""
    classes = len(found.classes)
    one_hot_NxK = np.eye(classes, dtype=np.float32)[found.train.label_N]
    answers = {
        "knn": vote(train_NxD, one_hot_NxK, val_MxD, min(neighbours, len(train_NxD))).argmax(1),
        "linear": linear_probe(train_NxD, found.train.label_N, val_MxD, classes, ridge).argmax(1),
        "chance": np.full(len(val_MxD), np.bincount(found.train.label_N, minlength=classes).argmax()),
    }
    metrics = {}
    for name, answer_M in answers.items():
        metrics[f"probe/{name}"] = float((answer_M == found.val.label_N).mean())
        metrics[f"probe/{name}_balanced"] = balanced_accuracy(answer_M, found.val.label_N)
    return metrics


def balanced_accuracy(answer_M: np.ndarray, label_M: np.ndarray) -> float:
    """Mean over the classes that occur in `label_M` of the share of their windows that were recognised."""
    return float(np.mean([(answer_M[label_M == k] == k).mean() for k in np.unique(label_M)]))


def linear_probe(
    train_NxD: np.ndarray, label_N: np.ndarray, query_MxD: np.ndarray, classes: int, ridge: float
) -> np.ndarray:
    """Scores [M,K] of ridge regression onto one-hot classes, each class weighing the same, in closed form.

    Features are standardised by the training windows. Solved in the dual, N equations however wide the features are:
    scores = c + k(q, x) (k(x, x) + ridge W^-1)^-1 (y - c), where k is the mean product of features, W holds the
    windows' weights (mean 1) and c the weighted mean of the targets. A class that is not in `label_N` never wins.
    """
    mean_D, std_D = train_NxD.mean(0, dtype=np.float64), train_NxD.std(0, dtype=np.float64)
    scale_D = np.where(std_D > 1e-6, std_D, np.inf)  # what does not vary tells nothing
    x_NxD, q_MxD = ((x.astype(np.float64) - mean_D) / scale_D for x in (train_NxD, query_MxD))
    count_K = np.bincount(label_N, minlength=classes)
    weight_N = len(label_N) / (np.count_nonzero(count_K) * count_K[label_N])
    target_NxK = np.eye(classes)[label_N]
    centre_K = np.average(target_NxK, axis=0, weights=weight_N)
    x_centre_D = np.average(x_NxD, axis=0, weights=weight_N)
    x_NxD, q_MxD = x_NxD - x_centre_D, q_MxD - x_centre_D
    width = x_NxD.shape[1]
    kernel_NxN = x_NxD @ x_NxD.T / width + ridge * np.diag(1 / weight_N)
    score_MxK = centre_K + q_MxD @ (x_NxD.T @ np.linalg.solve(kernel_NxN, target_NxK - centre_K)) / width
    return np.where(count_K > 0, score_MxK, -np.inf)


def probe_facts(found: ProbeSet) -> Mapping[str, str]:
    """What all processes must find alike in the labelled set."""
    facts = {"probe set": found.text}
    for split, moments in (("training", found.train), ("validation", found.val)):
        for number, case in enumerate(moments.cases):
            facts[f"probe {split} case {number}"] = f"{case.id}, {len(case.times_N)} moments"
    return facts
