"""A perfect prediction scores perfectly under every convention, and values agree with hand-computed ones."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import DataConfig, ReportConfig
from surgmotion_jax.evaluate.features.windows_of_cases import Position, WindowReader
from surgmotion_jax.evaluate.results import scored_json
from surgmotion_jax.evaluate.tasks.action import ActionTask
from surgmotion_jax.evaluate.tasks.depth import DepthTask, typical_depth
from surgmotion_jax.evaluate.tasks.families import Truths, make_task
from surgmotion_jax.evaluate.tasks.segmentation import SegmentationTask
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.task import Measure, score, value_of
from surgmotion_jax.evaluate.tasks.triplet import TripletTask, parts_of
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask
from surgmotion_jax.records import Result
from tests.benchmarks.simulated import make

REPORT = ReportConfig(resamples=40)
PARTS_4x3 = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]])


def values(task, tables):
    return {(m.name, m.convention): m.statistic(np.arange(len(tables))) for m in task.measures(tables)}


def one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def test_perfect_phases_score_one_under_every_convention():
    task = WorkflowTask(tuple("abcdefg"), relaxed=True)
    labels = [np.repeat([0, 1, 2], 15), np.repeat([0, 3, 6], 15)]
    found = values(task, [task.columns(one_hot(x, 7), {"label": x}) for x in labels])
    assert len(found) == 5 + 4 + 5 + 5 + 4
    np.testing.assert_allclose(list(found.values()), 1.0)


def test_conventions_of_phases_differ_by_a_spurious_class():
    task = WorkflowTask(("a", "b", "c"))
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    found = values(task, [task.columns(one_hot(predicted, 3), {"label": truth})])
    assert found["recall", "mean over videos; classes present in the ground truth"] == pytest.approx(0.75)
    assert found["recall", "mean over videos; classes in ground truth or prediction"] == pytest.approx(0.5)


def test_actions_are_pooled_over_clips():
    task = ActionTask(tuple("abcdef"))
    truth = [0, 1, 1, 5]
    scores = [one_hot([x], 6) for x in (0, 1, 0, 4)]
    found = values(task, [task.columns(s, {"label": np.array([t])}) for s, t in zip(scores, truth, strict=True)])
    assert found["accuracy", "all clips pooled"] == 0.5
    # Class 5 of six, all equal scores: of equals the lower numbers count, so it is not among five.
    assert found["top_5_accuracy", "all clips pooled"] == 0.75


def test_perfect_triplets_score_one_where_classes_are_absent():
    task = TripletTask(tuple("abcd"), PARTS_4x3)
    label = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    found = values(task, [task.columns(label.astype(np.float32), {"label": label})])
    for component in ("I", "V", "T", "IV", "IT", "IVT"):
        assert found[f"mAP_{component}", task.choice[1]] == 1.0


def test_the_triplet_table_comes_from_the_names():
    classes = {"triplet": ("hook,cut,duct", "clip,cut,duct"), "instrument": ("clip", "hook"), "verb": ("cut",)}
    np.testing.assert_array_equal(parts_of(classes | {"target": ("duct",)}), [[1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="triplet 'hook,cut,duct' is not instrument,verb,target"):
        parts_of(classes | {"target": ("artery",)})


def test_constant_skill_labels_leave_the_correlation_undefined_and_say_so():
    task = SkillTask(("suturing", "knots"))
    truth = {"label": np.array([10.0, 10.0, 10.0]), "task": np.zeros(3, int)}
    scored = score("jigsaws", task.measures([task.columns(np.array([9.0, 10.0, 12.0]), truth)]), 1, REPORT)
    assert [(r.metric, r.value) for r in scored.results] == [("mae", 1.0)]
    assert {entry["metric"] for entry in scored.undefined} == {"spearman_suturing", "spearman"}
    assert all("are equal" in entry["why"] for entry in scored.undefined)


def test_skill_is_correlated_task_by_task():
    task = SkillTask(("suturing", "knots"))
    truth = {"label": np.array([1.0, 2, 3, 4, 1, 2, 3, 4]), "task": np.repeat([0, 1], 4)}
    found = values(task, [task.columns(np.array([1.0, 2, 3, 4, 40, 30, 20, 10]), truth)])
    assert found["spearman_suturing", "over the trials of the task"] == pytest.approx(1)
    assert found["spearman_knots", "over the trials of the task"] == pytest.approx(-1)
    assert found["spearman", "mean over tasks through Fisher's z"] == pytest.approx(0, abs=1e-6)


def test_a_task_of_three_trials_has_no_correlation_and_no_part_in_the_mean():
    """Its ranks agree perfectly by chance once in six, and one perfect correlation would swallow the mean."""
    task = SkillTask(("suturing", "knots"))
    truth = {"label": np.array([1.0, 2, 3, 1, 2, 3, 4]), "task": np.array([0, 0, 0, 1, 1, 1, 1])}
    tables = [task.columns(np.array([1.0, 2, 3, 2, 1, 3, 4]), truth)]
    scored = score("jigsaws", task.measures(tables), 1, REPORT)
    assert {row.metric: row.value for row in scored.results}["spearman"] == pytest.approx(0.8)
    assert [entry["metric"] for entry in scored.undefined] == ["spearman_suturing"]


def test_draws_that_leave_a_task_undefined_have_no_mean():
    task = SkillTask(("suturing", "knots"))
    tables = [
        task.columns(np.array([float(k % 4)]), {"label": np.array([float(k % 4)]), "task": np.array([k // 4])})
        for k in range(8)
    ]
    mean = next(measure.statistic for measure in task.measures(tables) if measure.name == "spearman")
    assert mean(np.arange(8)) == pytest.approx(1)
    assert np.isnan(mean(np.array([0, 1, 2, 3, 4, 4, 4, 4])))


@pytest.mark.parametrize(
    ("needed", "then"), [(1, "no interval can be given"), (3, "intervals leave them out"), (12, None)]
)
def test_undefined_draws_are_told_beside_the_interval(needed, then):
    """A value that needs one of the first cases: a draw of 12 lacks all of `needed` with odds (1 - needed/12)^12."""

    def statistic(rows):
        return float(rows.mean()) if (rows < needed).any() else float("nan")

    scored = score("any", [Measure("mean", "of numbers", statistic)], 12, ReportConfig(resamples=200))
    (row,), (written,) = scored.results, scored_json(scored)["results"]
    rng = np.random.default_rng(0)
    without = sum(not (rng.integers(0, 12, 12) < needed).any() for _ in range(200))
    assert row.value == 5.5
    assert (row.interval is None) == (needed == 1)
    assert Result.from_json(row.to_json()) == row
    if then is None:
        assert without == 0
        assert written.keys() == {"metric", "convention", "value", "interval"}
    else:
        assert without > 0
        assert written["interval_note"] == f"undefined in {without} of 200 draws of 12 cases: {then}"


def test_a_single_case_and_an_oracle_have_no_note():
    undefined_in_draws = Measure("mean", "of numbers", lambda rows: 1.0 if 0 in rows else float("nan"))
    for cases, report in ((1, REPORT), (12, None)):
        (row,) = score("any", [undefined_in_draws], cases, report).results
        assert (row.interval, row.interval_note) == (None, "")


def test_masks_count_only_where_the_frame_is():
    task = SegmentationTask()
    label = np.zeros((1, 4, 4), bool)
    label[0, :2] = True
    inside = np.ones((1, 4, 4), bool)
    inside[0, 3] = False
    prediction = label.astype(np.float32)
    prediction[0, 3] = 1.0  # in the black bar
    found = values(task, [task.columns(prediction, {"label": label, "mask": inside})])
    assert set(found.values()) == {1.0} or min(found.values()) > 0.99
    everywhere = values(task, [task.columns(prediction, {"label": label, "mask": np.ones_like(inside)})])
    assert everywhere["dice", task.choice[1]] == pytest.approx(2 * 8 / (8 + 12))


def test_depth_is_pooled_over_pixels_and_scaled_only_where_said():
    task = DepthTask()
    truth = {"label": np.full((2, 2, 2), 10.0), "mask": np.array([[[1, 1], [1, 1]], [[1, 0], [0, 0]]], bool)}
    prediction = np.stack([np.full((2, 2), 11.0), np.full((2, 2), 20.0)])
    found = values(task, [task.columns(prediction, truth)])
    pooled, mean = task.choice[1], "mean over images, at the size the encoder sees, millimetres"
    assert found["abs_rel", pooled] == pytest.approx((4 * 0.1 + 1) / 5)
    assert found["abs_rel", mean] == pytest.approx((0.1 + 1) / 2)
    assert found["rmse", pooled] == pytest.approx(np.sqrt((4 + 100) / 5))
    assert found["scaled_abs_rel", f"{pooled}; each prediction scaled to the true median"] == pytest.approx(0)
    assert value_of(task.measures([task.columns(prediction, truth)]), task.choice, 1)[1] is False
    with pytest.raises(ValueError, match="no training image has a pixel of known depth"):
        typical_depth({"label": truth["label"], "mask": np.zeros((2, 2, 2), bool)})


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="no scored moment in any case"):
        WorkflowTask(("a",)).measures([])


@pytest.mark.parametrize(("name", "shape"), [("c3vd", (32, 32)), ("polyp_segmentation", (32, 32)), ("jigsaws", ())])
def test_truth_has_the_shape_that_the_encoder_sees(tmp_path, name, shape):
    root = make(name, tmp_path / "set", 6, 2.0, fps=2)
    benchmark = catalogue.get(name)
    contents = benchmark.read(root, benchmark.protocols[0])
    task = make_task(benchmark, contents)
    truths = Truths(benchmark, contents.cases["train"], WindowReader(DataConfig(frames=1, size=32)))
    found = truths.rows([Position(0, 0), Position(1, 0)])
    assert found["label"].shape == found["mask"].shape == (2, *shape)
    assert task.family == benchmark.family
    if name == "c3vd":
        np.testing.assert_allclose(found["label"][found["mask"]], 50, atol=0.01)  # the fake scene is a flat wall


@pytest.mark.parametrize("weighting", ["none", "balanced"])
def test_families_without_weighted_classes_say_so_when_a_weighting_is_asked_for(weighting):
    scores, pictures = np.arange(4.0), np.ones((2, 4, 4))
    tasks = {
        "triplet": (TripletTask(("a", "b"), np.array([[0, 0, 0], [0, 1, 0]])), np.eye(2, dtype=int)),
        "skill": (SkillTask(("all",)), scores),
        "segmentation": (SegmentationTask(), pictures),
        "depth": (DepthTask(), pictures),
    }
    for task, label in tasks.values():
        notes = task.objective({"label": label, "mask": np.ones(label.shape, bool)}, weighting).notes
        assert len(notes) == (weighting != "none")
        assert all("sweep.class_weights is balanced, which has no part in this loss" in note for note in notes)
    workflow = WorkflowTask(("a", "b")).objective({"label": np.array([0, 1])}, weighting)
    assert workflow.notes == ()
