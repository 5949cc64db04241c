"""What a head is trained towards: one objective a task family, its loss and how outputs become predictions.

Every loss takes outputs, targets and a mask of the targets that count, and is 0 where none does. What is masked has
no influence, so a row without a label carries any value there: no label is ever -1.

Letters: B rows, C classes or columns, H, W pixels; `...` is [B], or [B,N] for heads with an output a moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from surgmotion_jax.checks import one_of
from surgmotion_jax.evaluate.config import WEIGHTINGS
from surgmotion_jax.evaluate.metrics.triplets import component_columns

EFFECTIVE_BETA = 0.9999
SILOG_VARIANCE, SILOG_WEIGHT, GRADIENT_WEIGHT = 0.85, 0.15, 0.1


@dataclass(frozen=True)
class Objective:
    """A task family's loss, as functions of arrays."""

    name: str
    outputs: int  # columns of the head's output; 1 for dense heads
    loss: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (outputs, target, mask) -> scalar
    predict: Callable[[jax.Array], jax.Array]  # outputs -> probabilities, scores or depths
    parts: Mapping[str, slice] = field(default_factory=dict)  # columns of each component
    notes: tuple[str, ...] = ()  # what the training labels lack, for the log and the result


# ---- classes ----


def class_counts(label_N: ArrayLike, classes: Sequence[str]) -> np.ndarray:
    """How often each class occurs, [C]. Raises ValueError for a label outside 0..C-1."""
    labels = np.asarray(label_N).reshape(-1)
    if labels.size and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ValueError(
            f"labels span {labels.min()}..{labels.max()}; allowed are 0..{len(classes) - 1} ({', '.join(classes)}). "
            "Leave out a moment without a label, or mask it."
        )
    return np.bincount(labels.astype(np.int64), minlength=len(classes))


def class_weights(count_C: np.ndarray, weighting: str) -> np.ndarray:
    """Weight of each class in the loss, float32 [C]; 0 for a class that does not occur.

    balanced: total / (C count), scaled so that the smallest is 1. inverse: total / count. inverse_sqrt: its root.
    effective_number: (1 - b) / (1 - b^count), b = .9999 (arXiv 1901.05555). The loss divides by the sum of the
    weights, so their scale does not matter, and balanced and inverse train alike.

    Raises ValueError for another name, or without any label.
    """
    one_of("class_weights", weighting, WEIGHTINGS)
    count = np.asarray(count_C, np.float64)
    present = count > 0
    if not present.any():
        raise ValueError("no class occurs in the training labels; give training cases with labels")
    n = np.where(present, count, 1)
    weights = {
        "none": np.ones_like(n),
        "balanced": count.max() / n,
        "inverse": count.sum() / n,
        "inverse_sqrt": np.sqrt(count.sum() / n),
        "effective_number": (1 - EFFECTIVE_BETA) / -np.expm1(n * np.log(EFFECTIVE_BETA)),
    }[weighting]
    return np.where(present, weights, 0).astype(np.float32)


def classification(label_N: ArrayLike, classes: Sequence[str], weighting: str = "balanced") -> Objective:
    """Class-weighted cross-entropy towards class ids [...]; predicts probabilities [...,C].

    The loss is the weighted mean, sum of w l over sum of w. Classes that do not occur in the training labels have
    weight 0 and are named in `notes`. Raises ValueError for labels outside the classes, or none at all.
    """
    count_C = class_counts(label_N, classes)
    weight_C = class_weights(count_C, weighting)
    return Objective(
        "classification",
        len(classes),
        partial(cross_entropy, weight_C=weight_C),
        jax.nn.softmax,
        notes=absent_notes(count_C, classes),
    )


def absent_notes(count_C: np.ndarray, classes: Sequence[str]) -> tuple[str, ...]:
    """A sentence that names the classes that never occur, or nothing."""
    absent = [name for name, count in zip(classes, count_C, strict=True) if not count]
    if not absent:
        return ()
    listed = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return (f"{len(absent)} of {len(classes)} classes never occur in training and cannot be learnt: {listed}",)


def cross_entropy(logits: jax.Array, label: jax.Array, mask: jax.Array, weight_C: np.ndarray) -> jax.Array:
    """Weighted mean of -log p(label): logits [...,C], labels and mask [...]."""
    known = jnp.where(mask, label, 0)
    log_p = jax.nn.log_softmax(logits)
    nll = -jnp.take_along_axis(log_p, known[..., None], axis=-1)[..., 0]
    return weighted_mean(nll, mask * jnp.asarray(weight_C, logits.dtype)[known])


def unweighted(objective: Objective, weighting: str, why: str) -> Objective:
    """The objective, with a note that a weighting of classes was asked for and has no part in it."""
    if weighting == "none":
        return objective
    note = f"sweep.class_weights is {weighting}, which has no part in this loss: {why}"
    return dataclasses.replace(objective, notes=(*objective.notes, note))


# ---- columns of 0 and 1 ----


def presence(label_NxK: ArrayLike, classes: Sequence[str]) -> Objective:
    """Binary cross-entropy of classes that may be there together: the mean over classes. Targets are 0/1 [...,K].

    Classes that never occur are named in `notes`. Raises ValueError for labels that are not 0 or 1, and another number
    of columns.
    """
    labels = np.asarray(label_NxK).reshape(-1, np.shape(label_NxK)[-1])
    if labels.shape[1] != len(classes):
        raise ValueError(f"labels have {labels.shape[1]} columns, but there are {len(classes)} classes")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels span {labels.min()}..{labels.max()}; allowed are 0 and 1")
    notes = absent_notes(labels.sum(0), classes)
    return Objective("presence", len(classes), partial(multi_label, rows=()), jax.nn.sigmoid, notes=notes)


def triplets(
    triplets_Cx3: np.ndarray,
    label_NxC: ArrayLike,
    components: Sequence[str] = ("I", "V", "T"),
    names: Sequence[str] = (),
) -> Objective:
    """Binary cross-entropy of the triplets, and of their components by heads of their own.

    Outputs are the C triplets, then a column for each class of each component (`parts` says which), whose labels
    are the maxima over the triplets that contain them. The loss is the sum over parts of their mean over columns.
    Targets are 0/1 [...,C]; predicts probabilities of all columns. Triplets that never occur are named in `notes`, by
    `names` where these are given.

    Raises ValueError for labels that are not 0 or 1, another number of columns, an unknown component.
    """
    table = np.asarray(triplets_Cx3)
    labels = np.asarray(label_NxC).reshape(-1, np.shape(label_NxC)[-1])
    if labels.shape[1] != len(table):
        raise ValueError(f"triplet labels have {labels.shape[1]} columns, but there are {len(table)} triplets")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"triplet labels span {labels.min()}..{labels.max()}; allowed are 0 and 1")
    rows = {name: component_columns(table, name)[1] for name in components}
    parts, end = {"IVT": slice(0, len(table))}, len(table)
    for name, row_C in rows.items():
        parts[name] = slice(end, end + row_C.max() + 1)
        end = parts[name].stop
    notes = absent_notes(labels.sum(0), names or [f"triplet {number}" for number in range(len(table))])
    loss = partial(multi_label, rows=tuple(rows.values()))
    return Objective("triplets", end, loss, jax.nn.sigmoid, parts, notes)


def multi_label(logits: jax.Array, label: jax.Array, mask: jax.Array, rows: Sequence[np.ndarray]) -> jax.Array:
    """Sum over parts of the binary cross-entropy: logits [...,C + component classes], labels 0/1 [...,C], mask [...].

    `rows` holds, for each component, the class of every triplet.
    """
    label = jnp.where(mask[..., None], label, 0).astype(logits.dtype)
    total, start = jnp.zeros((), logits.dtype), 0
    for row_C in (np.arange(label.shape[-1]), *rows):
        belongs = jnp.asarray(row_C[:, None] == np.arange(row_C.max() + 1), logits.dtype)
        part = jnp.minimum(label @ belongs, 1)  # of 0 and 1: the maximum over the triplets of a class
        entropy = binary_cross_entropy(logits[..., start : start + part.shape[-1]], part)
        total, start = total + weighted_mean(entropy.mean(-1), mask), start + part.shape[-1]
    return total


def binary_cross_entropy(logit: jax.Array, label: jax.Array) -> jax.Array:
    """-log p of each 0/1 label, finite for any logit."""
    return jnp.maximum(logit, 0) - logit * label + jnp.log1p(jnp.exp(-jnp.abs(logit)))


# ---- scores ----


def regression(score_N: ArrayLike) -> Objective:
    """Mean squared error of scores [...], standardised by the training scores; predicts scores.

    Raises ValueError for scores that are not finite, or none. Constant scores are said in `notes`.
    """
    scores = np.asarray(score_N, np.float64).reshape(-1)
    if not (scores.size and np.isfinite(scores).all()):
        raise ValueError(f"{scores.size} training scores, finite ones {np.isfinite(scores).sum()}; give finite scores")
    mean, deviation = float(scores.mean()), float(scores.std())
    notes = () if deviation else (f"all {scores.size} training scores are {mean:g}: nothing can be learnt from them",)
    deviation = deviation or 1.0

    def loss(outputs: jax.Array, score: jax.Array, mask: jax.Array) -> jax.Array:
        wanted = (jnp.where(mask, score, mean) - mean) / deviation
        return weighted_mean(jnp.square(outputs[..., 0] - wanted.astype(outputs.dtype)), mask)

    def predict(outputs: jax.Array) -> jax.Array:
        return outputs[..., 0] * deviation + mean

    return Objective("regression", 1, loss, predict, notes=notes)


# ---- pixels ----


def segmentation() -> Objective:
    """Binary cross-entropy plus soft Dice loss an image, of masks [B,H,W]; predicts probabilities."""
    return Objective("segmentation", 1, mask_loss, jax.nn.sigmoid)


def mask_loss(logit_BxHxW: jax.Array, label: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over images with a valid pixel of cross-entropy + (1 - Dice), both over the valid pixels."""
    label = jnp.where(valid, label, 0).astype(logit_BxHxW.dtype)
    weight = valid.astype(logit_BxHxW.dtype)
    p = jax.nn.sigmoid(logit_BxHxW)
    both, either = (weight * p * label).sum((1, 2)), (weight * (p + label)).sum((1, 2))
    dice = (2 * both + 1) / (either + 1)  # 1 where both are empty, and a gradient there
    entropy = weighted_mean(binary_cross_entropy(logit_BxHxW, label), weight, axis=(1, 2))
    return weighted_mean(entropy + 1 - dice, valid.any((1, 2)))


def depth(scale: float) -> Objective:
    """Depth maps [B,H,W]: absolute error + .15 scale-invariant log error + .1 error of the gradients.

    Depths are divided by `scale`, a typical depth of the training data, so that the terms have one size in any unit.
    Raises ValueError for a scale that is not positive.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"depth scale is {scale}; give the median of the valid training depths, above 0")
    return Objective("depth", 1, partial(depth_loss, scale=scale), lambda outputs: outputs)


def depth_loss(depth_BxHxW: jax.Array, truth: jax.Array, valid: jax.Array, scale: float) -> jax.Array:
    """Mean over images with a valid pixel; predicted depths must be positive."""
    tiny = jnp.finfo(depth_BxHxW.dtype).tiny
    p = jnp.maximum(depth_BxHxW / scale, tiny)  # softplus of a very negative number rounds to 0
    d = jnp.where(valid, truth / scale, 1).astype(p.dtype)
    absolute = weighted_mean(jnp.abs(p - d), valid, axis=(1, 2))
    ratio = jnp.where(valid, jnp.log(p) - jnp.log(d), 0)
    silog = weighted_mean(jnp.square(ratio), valid, axis=(1, 2))
    silog = silog - SILOG_VARIANCE * jnp.square(weighted_mean(ratio, valid, axis=(1, 2)))
    slopes = slope_error(p - d, valid, 1) + slope_error(p - d, valid, 2)
    return weighted_mean(absolute + SILOG_WEIGHT * silog + GRADIENT_WEIGHT * slopes, valid.any((1, 2)))


def slope_error(error_BxHxW: jax.Array, valid: jax.Array, axis: int) -> jax.Array:
    """Mean absolute difference of neighbours' errors along an axis, [B], where both neighbours are valid."""
    count = error_BxHxW.shape[axis] - 1

    def part(x: jax.Array, start: int) -> jax.Array:
        return jax.lax.slice_in_dim(x, start, start + count, axis=axis)

    pair = part(valid, 1) & part(valid, 0)
    return weighted_mean(jnp.abs(part(error_BxHxW, 1) - part(error_BxHxW, 0)), pair, axis=(1, 2))


def weighted_mean(x: jax.Array, weight: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """sum(w x) / sum(w); 0 where all weights are, whatever x is there."""
    weight = weight.astype(x.dtype)
    total = weight.sum(axis)
    kept = jnp.where(weight > 0, x, 0)
    return (kept * weight).sum(axis) / jnp.where(total > 0, total, 1)
