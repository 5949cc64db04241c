"""Classes that may be there together: each video by itself, and nothing for a class that is not there."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from surgmotion_jax.evaluate.heads.targets import presence
from surgmotion_jax.evaluate.tasks.presence import PresenceTask
from surgmotion_jax.evaluate.tasks.triplet import TripletTask

TASK = PresenceTask(("hook", "smoke", "bag"))
LABELS = (
    np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]]),
    np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]),
)


def tables(scores):
    return [TASK.columns(score, {"label": label}) for score, label in zip(scores, LABELS, strict=True)]


def values(scores):
    found = TASK.measures(tables(scores))
    return {measure.name: measure.statistic(np.arange(2)) for measure in found}


def test_scores_that_are_the_truth_have_full_marks():
    found = values([label.astype(float) for label in LABELS])
    assert found["mAP"] == found["f1"] == found["AP_hook"] == found["AP_smoke"] == 1
    assert np.isnan(found["AP_bag"])  # which no video shows: undefined, not 0


def test_scores_that_say_nothing_have_the_share_of_frames():
    """Equal scores are one threshold, whose precision is the share: hook 1/2 in both videos, smoke 1/2 in the first."""
    found = values([np.full(label.shape, 0.3) for label in LABELS])
    assert found["mAP"] == found["mAP_chance"] == pytest.approx(0.5)
    assert found["f1"] == 0


def test_a_class_is_scored_over_the_videos_that_show_it():
    score = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.6, 0.4, 0]])  # hook 1, 3; smoke 2, 3
    found = values([score, score])
    hook, smoke = ((1 + 2 / 3) / 2 + 1) / 2, (1 / 2 + 2 / 3) / 2
    assert found["AP_hook"] == pytest.approx(hook)
    assert found["AP_smoke"] == pytest.approx(smoke)
    assert found["mAP"] == pytest.approx((hook + smoke) / 2)


def test_tables_hold_all_that_is_scored():
    (table, _) = tables([label.astype(np.float32) for label in LABELS])
    assert table["truth"].tolist() == ["t0", "t1", "t0 t1", ""]
    assert [name for name in table if name != "truth"] == ["s0", "s1", "s2"]


def test_the_loss_is_the_mean_entropy_of_the_classes_and_masked_rows_do_not_count():
    objective = presence(np.concatenate(LABELS), TASK.classes)
    assert objective.notes == ("1 of 3 classes never occur in training and cannot be learnt: bag",)
    logits, label = np.random.default_rng(0).normal(size=(4, 3)), LABELS[0].copy()
    mask = np.array([True, True, True, False])
    p = 1 / (1 + np.exp(-logits[:3]))
    wanted = -np.mean(label[:3] * np.log(p) + (1 - label[:3]) * np.log(1 - p))
    label[3] = 7
    assert float(objective.loss(jax.numpy.asarray(logits), label, mask)) == pytest.approx(wanted, rel=1e-5)


def test_labels_that_are_not_0_or_1_are_refused():
    with pytest.raises(ValueError, match=r"labels span 0..2; allowed are 0 and 1"):
        presence(np.array([[0, 1, 2]]), TASK.classes)
    with pytest.raises(ValueError, match="labels have 2 columns, but there are 3 classes"):
        presence(np.array([[0, 1]]), TASK.classes)


def test_triplet_tables_leave_out_the_outputs_that_only_help_training():
    """Five triplets, and outputs of their instruments, verbs and targets beside them."""
    triplets = TripletTask(tuple("abcde"), np.array([[i, i % 2, 0] for i in range(5)]))
    objective = triplets.objective({"label": np.eye(5, dtype=int)}, "none")
    assert objective.outputs > 5
    table = triplets.columns(np.zeros((5, objective.outputs)), {"label": np.eye(5, dtype=int)})
    assert [name for name in table if name != "truth"] == ["s0", "s1", "s2", "s3", "s4"]
