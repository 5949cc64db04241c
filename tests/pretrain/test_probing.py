"""The probe: which windows it takes, what it refuses, and that both probes answer as they should."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from surgmotion_jax.benchmarks.benchmark import Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.evaluate.encoder.frozen import features
from surgmotion_jax.pretrain.monitor.probing import (
    balanced_accuracy,
    choose,
    compile_pooled_features,
    linear_probe,
    probe_facts,
    probe_metrics,
)
from surgmotion_jax.pretrain.setup.agreement import setup_facts
from surgmotion_jax.pretrain.state import abstract_state, shardings_of
from surgmotion_jax.runs.probe import vote
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import small_config

CLASSES = ("one", "two", "three")
BENCHMARK = Benchmark("made_up", "Made up", "workflow", "phase", "ROOT/", ("official",), lambda *_: None)


def case(name, labels, group=None):
    """A case with a label every second."""
    labels_N = np.array(labels, np.int64)
    return Case(name, group or name, ImageFrames((Path("0.png"),)), np.arange(len(labels_N)) * 1.0, {"phase": labels_N})


def contents(train=(), val=(), test=()):
    return Contents("made_up", "official", {"phase": CLASSES}, {"train": train, "val": val, "test": test})


def cases(*names, labels=(0, 0, 1, 1, 2, 2)):
    return tuple(case(name, labels) for name in names)


def test_windows_are_spread_over_cases_and_time():
    found = choose(contents(cases("a", "b"), cases("c")), BENCHMARK, "", 4)
    assert found.train.rows_Nx2.tolist() == [[0, 0], [0, 4], [1, 1], [1, 5]]
    assert found.val.rows_Nx2.tolist() == [[0, 0], [0, 2], [0, 3], [0, 5]]
    assert found.train.label_N.tolist() == [0, 2, 0, 2]
    assert [c.id for c in found.train.cases] == ["a", "b"]
    whole = choose(contents(cases("a", "b"), cases("c")), BENCHMARK, "", 100)
    assert len(whole.train.label_N) == 12
    assert whole.text == "made_up: 12 training windows of 2 cases and 6 validation windows of 1 cases, 3 of 3 classes"


def test_without_validation_cases_some_training_cases_validate_and_no_test_case_does():
    found = choose(contents(cases("a", "b", "c"), (), cases("t", "u")), BENCHMARK, "", 100)
    train, val = ({c.id for c in part.cases} for part in (found.train, found.val))
    assert train
    assert val
    assert train | val == {"a", "b", "c"}
    assert not train & val


def test_a_group_is_not_split():
    both = (case("a", [0, 1], "p"), case("b", [0, 1], "p"), case("c", [0, 1], "q"))
    found = choose(contents(both), BENCHMARK, "", 100)
    groups = [{c.group for c in part.cases} for part in (found.train, found.val)]
    assert not groups[0] & groups[1]


@pytest.mark.parametrize(
    ("given", "label", "words"),
    [
        (contents(cases("a")), "", "has 1 training or validation cases .*at least two.*Test cases are not used"),
        (contents((), (), cases("a", "b")), "", "has 0 training or validation cases"),
        (contents(cases("a", "b", labels=(1, 1)), cases("c")), "", r"training windows .*all show one class \(two\)"),
        (contents(cases("a"), cases("b", labels=(2, 2))), "", r"validation windows .*all show one class \(three\)"),
        (contents(cases("a", "b")), "skill", r"probe.label 'skill' of made_up is not one class .*classes: phase"),
    ],
)
def test_what_cannot_be_probed_is_refused(given, label, words):
    with pytest.raises(ValueError, match=words):
        choose(given, BENCHMARK, label, 100)


def test_labels_of_several_columns_are_refused():
    wide = Case("a", "a", ImageFrames(()), np.zeros(2), {"phase": np.zeros((2, 5), np.int64)})
    with pytest.raises(ValueError, match=r"'phase' of case 'a' has shape \(2, 5\) and dtype int64"):
        choose(contents((wide,), cases("b")), BENCHMARK, "", 100)


def made(seed, count, classes=3, width=7, spread=0.3):
    """Features around one centre a class."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * 3 + 5
    return (centres[label_N] + spread * rng.normal(size=(count, width))).astype(np.float32), label_N


def test_the_linear_probe_is_weighted_ridge_regression():
    """Against the primal normal equations with an unpenalised intercept."""
    x, label_N = made(0, 40)
    query, _ = made(1, 9)
    keep = (label_N != 2) | (np.arange(40) % 4 == 0)  # so that classes really differ in weight
    x, label_N = x[keep], label_N[keep]
    count = np.bincount(label_N)
    assert len(set(count.tolist())) > 1
    weight_N = len(label_N) / (3 * count[label_N])
    mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    a = np.column_stack([(x - mean) / std, np.ones(len(x))])
    penalty = np.diag([0.2 * x.shape[1]] * x.shape[1] + [0.0])
    solution = np.linalg.solve(a.T @ (weight_N[:, None] * a) + penalty, a.T @ (weight_N[:, None] * np.eye(3)[label_N]))
    want = np.column_stack([(query - mean) / std, np.ones(len(query))]) @ solution
    np.testing.assert_allclose(linear_probe(x, label_N, query, 3, 0.2), want, rtol=1e-6, atol=1e-9)


def test_the_linear_probe_survives_what_says_nothing():
    """Constant features, more features than windows, a class without a window: a finite answer, never that class."""
    x, label_N = made(0, 6, width=40)
    x[:, :5] = 1.25
    label_N = np.where(label_N == 1, 2, label_N)
    answer = linear_probe(x, label_N, x, 4, 0.1)
    assert np.isneginf(answer[:, [1, 3]]).all()
    assert (answer.argmax(1) == label_N).all()
    constant = linear_probe(np.ones((6, 4), np.float32), label_N, np.ones((3, 4), np.float32), 4, 0.1)
    assert np.isfinite(constant[:, [0, 2]]).all()


def test_balanced_accuracy_is_mean_recall():
    label = np.array([0, 0, 0, 0, 2, 2])
    assert balanced_accuracy(np.array([0, 0, 0, 0, 0, 0]), label) == 0.5
    assert balanced_accuracy(np.array([0, 0, 1, 1, 2, 0]), label) == 0.5
    assert balanced_accuracy(label, label) == 1.0


def test_good_features_score_high_and_empty_ones_at_chance():
    both = choose(contents(cases("a", "b", "d", labels=(0, 0, 0, 1, 2)), cases("c", "e")), BENCHMARK, "", 100)

    def scores(informative):
        rng = np.random.default_rng(0)
        parts = (both.train.label_N, both.val.label_N)
        x, q = (informative * np.eye(3)[y] + rng.normal(size=(len(y), 3)) * 0.05 for y in parts)
        return probe_metrics(x.astype(np.float32), q.astype(np.float32), both, vote, 3, 0.1)

    good, empty = scores(1.0), scores(0.0)
    assert good["probe/knn"] == good["probe/linear"] == 1.0
    assert good["probe/knn_balanced"] == good["probe/linear_balanced"] == 1.0
    for metrics in (good, empty):
        assert metrics["probe/chance"] == pytest.approx(1 / 3), "class 0, the commonest, is a third of validation"
        assert metrics["probe/chance_balanced"] == pytest.approx(1 / 3)
    assert max(empty["probe/knn"], empty["probe/linear"]) < 0.8


def test_processes_may_hold_the_set_in_different_folders_but_not_different_sets():
    here, there = (small_config(**{"probe.benchmark": "cholec80", "probe.root": root}) for root in ("/a", "/b"))
    assert setup_facts(here, "w") == setup_facts(there, "w")
    found = choose(contents(cases("a", "b"), cases("c")), BENCHMARK, "", 4)
    other = choose(contents(cases("a", "b"), cases("d")), BENCHMARK, "", 4)
    assert probe_facts(found) != probe_facts(other)


def test_pooled_features_are_those_of_the_frozen_encoder():
    config = small_config(
        **{"model.variant": "vit_tiny", "model.depth": 1, "model.predictor.heads": 3, "probe.batch": 8}
    )
    rng, layout = np.random.default_rng(0), layout_of(4, 2, 1)
    video = rng.integers(0, 256, (8, config.data.frames, 48, 48, 3), np.uint8)
    abstract = abstract_state(config, layout).target
    target = jax.tree.map(lambda x: rng.normal(0, 0.05, x.shape).astype(x.dtype), abstract)
    want = jax.jit(features, static_argnums=0)(config.model, target, video).tokens.mean((1, 2, 3))
    assert np.std(want, axis=0).max() > 1e-3, "clips must differ"
    program = compile_pooled_features(config, layout)
    got = program(jax.device_put(target, shardings_of(abstract)), jax.device_put(video, layout.batch))
    assert got.sharding.is_fully_replicated
    np.testing.assert_allclose(got, want, atol=1e-4)
