"""Losses against their definitions; what is masked has no influence; labels that cannot be are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.evaluate.heads import targets
from surgmotion_jax.evaluate.heads.targets import class_weights, weighted_mean
from surgmotion_jax.evaluate.metrics.triplets import to_component

NAMES = ("cut", "clip", "clean", "pack")
COUNTS = np.array([8, 2, 0, 4])
TABLE = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 2], [1, 0, 1]])


def rng():
    return np.random.default_rng(0)


def loss_of(objective, outputs, target, mask):
    return float(jax.jit(objective.loss)(outputs, target, mask))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def depth_maps():
    truth = rng().uniform(20, 80, (3, 5, 7)).astype(np.float32)
    return truth * np.exp(rng().normal(size=truth.shape) / 5).astype(np.float32), truth


# ---- weights of classes ----


@pytest.mark.parametrize(
    ("weighting", "wanted"),
    [
        ("none", [1, 1, 0, 1]),
        ("balanced", [1, 4, 0, 2]),
        ("inverse", [14 / 8, 7, 0, 14 / 4]),
        ("inverse_sqrt", [np.sqrt(14 / 8), np.sqrt(7), 0, np.sqrt(14 / 4)]),
        ("effective_number", [1e-4 / (1 - 0.9999**8), 1e-4 / (1 - 0.9999**2), 0, 1e-4 / (1 - 0.9999**4)]),
    ],
)
def test_class_weights(weighting, wanted):
    np.testing.assert_allclose(class_weights(COUNTS, weighting), wanted, rtol=1e-6)


def test_balanced_is_total_over_classes_and_count_scaled_to_a_smallest_of_one():
    count = np.array([50, 7, 13])
    stated = count.sum() / (3 * count)
    np.testing.assert_allclose(class_weights(count, "balanced"), stated / stated.min(), rtol=1e-6)


def test_cross_entropy_is_the_weighted_mean_and_absent_classes_are_named():
    label, logits = np.repeat([0, 1, 3], [8, 2, 4]), rng().normal(size=(14, 4)).astype(np.float32)
    objective = targets.classification(label, NAMES)
    assert objective.outputs == 4
    assert objective.notes == ("1 of 4 classes never occur in training and cannot be learnt: clean",)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weight = np.array([1, 4, 0, 2])[label]
    wanted = (weight * -np.log(p[np.arange(14), label])).sum() / weight.sum()
    np.testing.assert_allclose(loss_of(objective, logits, label, np.ones(14, bool)), wanted, rtol=1e-5)
    np.testing.assert_allclose(objective.predict(logits), p, rtol=1e-5)


def test_cross_entropy_of_a_class_that_does_not_occur_in_training_counts_nothing():
    objective = targets.classification([0, 1, 3], NAMES)
    logits = rng().normal(size=(2, 4)).astype(np.float32)
    both = loss_of(objective, logits, np.array([0, 2]), np.ones(2, bool))
    np.testing.assert_allclose(both, loss_of(objective, logits[:1], np.array([0]), np.ones(1, bool)), rtol=1e-6)


# ---- triplets ----


def test_triplet_loss_is_the_sum_over_components():
    label = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    objective = targets.triplets(TABLE, label)
    assert objective.parts == {"IVT": slice(0, 4), "I": slice(4, 6), "V": slice(6, 8), "T": slice(8, 11)}
    absent = "1 of 4 classes never occur in training and cannot be learnt: "
    assert objective.notes == (f"{absent}triplet 3",)
    assert targets.triplets(TABLE, label, names=NAMES).notes == (f"{absent}pack",)
    logits = rng().normal(size=(3, objective.outputs)).astype(np.float32)
    wanted = 0.0
    for name, columns in objective.parts.items():
        y, p = label if name == "IVT" else to_component(label, TABLE, name), sigmoid(logits[:, columns])
        wanted += -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    np.testing.assert_allclose(loss_of(objective, logits, label, np.ones(3, bool)), wanted, rtol=1e-5)
    alone = targets.triplets(TABLE, label, components=())
    assert alone.outputs == 4
    assert float(loss_of(alone, logits[:, :4], label, np.ones(3, bool))) < wanted


def test_binary_cross_entropy_is_finite_for_any_logit():
    np.testing.assert_allclose(
        targets.binary_cross_entropy(jnp.array([1e4, -1e4, 0.0]), jnp.array([0.0, 1.0, 1.0])), [1e4, 1e4, np.log(2)]
    )


# ---- scores ----


def test_scores_are_standardised_by_training_and_given_back():
    objective = targets.regression([10.0, 20.0, 30.0])
    deviation = np.std([10, 20, 30])
    score, outputs = np.array([20.0, 20.0]), np.array([[1.0], [-2.0]], np.float32)
    np.testing.assert_allclose(loss_of(objective, outputs, score, np.ones(2, bool)), (1 + 4) / 2, rtol=1e-6)
    np.testing.assert_allclose(objective.predict(outputs), [20 + deviation, 20 - 2 * deviation], rtol=1e-6)


def test_constant_scores_are_said():
    objective = targets.regression([7.0, 7.0])
    assert objective.notes == ("all 2 training scores are 7: nothing can be learnt from them",)
    np.testing.assert_allclose(objective.predict(np.array([[0.5]])), [7.5])


def test_a_weighting_that_has_no_part_is_said_unless_none_was_asked_for():
    plain = targets.regression([7.0, 7.0])
    said = targets.unweighted(plain, "balanced", "scores have no classes")
    assert said.notes == (
        *plain.notes,
        "sweep.class_weights is balanced, which has no part in this loss: scores have no classes",
    )
    assert targets.unweighted(plain, "none", "scores have no classes") is plain


# ---- pixels ----


def test_mask_loss_is_cross_entropy_and_dice_an_image():
    logit, label = rng().normal(size=(2, 6, 5)).astype(np.float32), rng().random((2, 6, 5)) < 0.4
    p, wanted = sigmoid(logit), []
    for q, y in zip(p, label, strict=True):
        entropy = -(y * np.log(q) + (1 - y) * np.log(1 - q)).mean()
        wanted.append(entropy + 1 - (2 * (q * y).sum() + 1) / (q.sum() + y.sum() + 1))
    found = loss_of(targets.segmentation(), logit, label, np.ones_like(label))
    np.testing.assert_allclose(found, np.mean(wanted), rtol=1e-5)


def test_depth_loss_is_its_three_terms():
    p, truth = depth_maps()
    found = loss_of(targets.depth(50.0), p, truth, np.ones_like(truth, bool))
    wanted = []
    for a, b in zip(p.astype(float) / 50, truth.astype(float) / 50, strict=True):
        g, e = np.log(a / b), a - b
        silog = np.mean(g**2) - 0.85 * np.mean(g) ** 2
        slopes = np.abs(np.diff(e, axis=0)).mean() + np.abs(np.diff(e, axis=1)).mean()
        wanted.append(np.abs(e).mean() + 0.15 * silog + 0.1 * slopes)
    np.testing.assert_allclose(found, np.mean(wanted), rtol=1e-5)
    metres = loss_of(targets.depth(0.05), p / 1000, truth / 1000, np.ones_like(truth, bool))
    np.testing.assert_allclose(metres, found, rtol=1e-4)


# ---- masks ----


def masked_cases():
    label = np.array([0, 1, 3, 1, 0])
    columns = rng().integers(0, 2, (5, 4))
    p, truth = depth_maps()
    logits = rng().normal(size=(5, 13)).astype(np.float32)
    rows = np.array([True, False, True, True, False])
    pixels = rng().random(truth.shape) < 0.6
    pixels[1] = False
    return {
        "classification": (targets.classification(label, NAMES), logits[:, :4], label, rows, -1),
        "triplets": (targets.triplets(TABLE, columns), logits[:, :11], columns, rows, -1),
        "regression": (targets.regression(label), logits[:, :1], label.astype(np.float32), rows, np.nan),
        "segmentation": (targets.segmentation(), p - truth, truth > 50, pixels, 1),
        "depth": (targets.depth(50.0), p, truth, pixels, np.nan),
    }


@pytest.mark.parametrize("name", masked_cases())
def test_what_is_masked_has_no_influence(name):
    objective, outputs, target, mask, junk = masked_cases()[name]
    slope = jax.jit(jax.value_and_grad(objective.loss))
    wide = mask.reshape(mask.shape + (1,) * (target.ndim - mask.ndim))
    spoilt = np.where(wide, target, junk).astype(target.dtype)
    (loss, grad), (other, other_grad) = (slope(outputs, y, mask) for y in (target, spoilt))
    assert loss == other
    np.testing.assert_array_equal(grad, other_grad)
    np.testing.assert_array_equal(np.asarray(grad)[~mask], 0)
    assert np.abs(np.asarray(grad)[mask]).max() > 0
    assert float(slope(outputs, target, np.ones_like(mask))[0]) != loss
    nothing, no_grad = slope(outputs, spoilt, np.zeros_like(mask))
    assert nothing == 0
    np.testing.assert_array_equal(no_grad, 0)


def test_a_weighted_mean_of_nothing_is_zero():
    np.testing.assert_array_equal(weighted_mean(jnp.array([jnp.nan, 3.0]), jnp.array([0.0, 0.0])), 0)
    np.testing.assert_allclose(weighted_mean(jnp.array([jnp.inf, 3.0, 5.0]), jnp.array([0.0, 1.0, 3.0])), 4.5)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: targets.classification([0, -1], NAMES), r"labels span -1..0; allowed are 0..3 \(cut, clip"),
        (lambda: targets.classification([0, 4], NAMES), r"labels span 0..4; allowed are 0..3"),
        (lambda: targets.classification([], NAMES), r"no class occurs in the training labels"),
        (lambda: class_weights(COUNTS, "ballanced"), r"class_weights is 'ballanced'.* Did you mean 'balanced'"),
        (lambda: targets.triplets(TABLE, np.ones((2, 3))), r"have 3 columns, but there are 4 triplets"),
        (lambda: targets.triplets(TABLE, np.full((2, 4), 2)), r"triplet labels span 2..2; allowed are 0 and 1"),
        (lambda: targets.triplets(TABLE, np.ones((2, 4)), ("X",)), r"component is 'X'"),
        (lambda: targets.regression([1.0, np.nan]), r"2 training scores, finite ones 1; give finite scores"),
        (lambda: targets.depth(0.0), r"depth scale is 0.0; give the median"),
    ],
)
def test_targets_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_long_list_of_absent_classes_is_cut():
    (note,) = targets.absent_notes(np.array([1] + [0] * 11), [f"c{i}" for i in range(12)])
    assert note.endswith("c7, c8 and 3 more")
