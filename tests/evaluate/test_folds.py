"""Folds pooled: every case is tested once, by heads that never saw it, and scored with all others."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.jigsaws import POOLED, PROTOCOLS
from surgmotion_jax.evaluate import folds
from surgmotion_jax.evaluate.folds import evaluate_protocol
from surgmotion_jax.evaluate.results import read_predictions
from surgmotion_jax.evaluate.run import Source
from surgmotion_jax.evaluate.tasks.families import task_of_results
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import SMALL, changed, read

POOL_MEMBERS = catalogue.get("surgicalactions160").pooled["folds"]
CLIPS = 64  # four of each action, one to a fold
POOL = changed(
    SMALL,
    data={"benchmark": "surgicalactions160", "protocol": "folds", "fps": 0.0},
    probe={"head": "knn", "neighbours": (1, 3)},
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make("surgicalactions160", tmp_path_factory.mktemp("set") / "set", CLIPS, seconds=0.5)


@pytest.fixture(scope="module")
def source():
    return Source(small_encoder())


@pytest.fixture(scope="module")
def pooled(root, source, tmp_path_factory):
    """A whole evaluation: its folder, and what it said."""
    said: list[str] = []
    workdir = tmp_path_factory.mktemp("pooled")
    evaluate_protocol(POOL, source, str(root), workdir, say=said.append)
    return workdir, said


def test_every_case_is_tested_once_and_never_by_a_head_that_learnt_from_it(pooled):
    workdir, _ = pooled
    fields, tables = read(workdir / "results.json"), read_predictions(workdir)
    assert len(tables) == CLIPS
    assert sorted(fields["cases"]["test"]) == sorted(tables)
    for fold in POOL_MEMBERS:
        cases = read(workdir / fold / "results.json")["cases"]
        assert not {*cases["train"], *cases["val"]} & {*cases["test"]}


def test_measures_are_those_of_all_test_cases_together(pooled):
    workdir, _ = pooled
    fields, together = read(workdir / "results.json"), []
    for fold in POOL_MEMBERS:
        together += read_predictions(workdir / fold).values()
    expected = {m.name: m.statistic(np.arange(CLIPS)) for m in task_of_results(fields).measures(together)}
    found = {row["metric"]: row["value"] for row in fields["chosen"]["results"]}
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)
    assert found
    assert [row["name"].partition(":")[0] for row in fields["candidates"]] == list(POOL_MEMBERS)


def test_features_are_computed_once_for_all_folds(pooled):
    workdir, said = pooled
    assert sum(text.startswith("features: ") for text in said) == CLIPS
    assert len(list((workdir / "features").glob("*/*.npy"))) == CLIPS


def test_stopped_between_folds_and_repeated_it_ends_the_same(pooled, root, source, tmp_path):
    class Stopped(Exception):
        """What interrupts the run."""

    def say(text):
        if text == "fold fold2":
            raise Stopped

    with pytest.raises(Stopped):
        evaluate_protocol(POOL, source, str(root), tmp_path, say=say)
    assert not (tmp_path / "results.json").exists()
    evaluate_protocol(POOL, source, str(root), tmp_path)
    for name in ("results.json", "predictions.csv"):
        assert (tmp_path / name).read_bytes() == (pooled[0] / name).read_bytes()
    said: list[str] = []
    again = evaluate_protocol(POOL, source, str(root), tmp_path, say=said.append)
    assert said[-1] == "this evaluation is finished"
    assert not [text for text in said if text.startswith("features")]
    assert again == read(tmp_path / "results.json")


def test_other_training_cases_are_noticed_when_a_finished_pool_is_repeated(pooled, source, tmp_path):
    other = make("surgicalactions160", tmp_path / "set", CLIPS + 16, seconds=0.5)
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate_protocol(POOL, source, str(other), pooled[0])


def test_a_workdir_of_one_fold_is_not_taken_for_all(root, source, tmp_path):
    one = changed(POOL, data={"protocol": "fold1"})
    evaluate_protocol(one, source, str(root), tmp_path)
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate_protocol(POOL, source, str(root), tmp_path)


def test_what_no_fold_can_do_leaves_the_workdir_free(root, source, tmp_path):
    with pytest.raises(ValueError, match="probe.head is dense"):
        evaluate_protocol(changed(POOL, probe={"head": "dense"}), source, str(root), tmp_path / "out")
    with pytest.raises(ValueError, match="cholec80"):
        evaluate_protocol(POOL, source, str(tmp_path / "cholec80"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_case_that_two_folds_test_is_refused(root, source, tmp_path):
    found = evaluate_protocol(changed(POOL, data={"protocol": "fold0"}), source, str(root), tmp_path / "fold0")
    (tmp_path / "out").mkdir()
    for name in ("a", "b"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "fold0")
    with pytest.raises(ValueError, match="is tested in two folds; a case must count once"):
        folds.pool(POOL, {"a": found, "b": found}, tmp_path / "out")


def test_pooled_names_are_not_protocols_of_a_reader():
    jigsaws = catalogue.get("jigsaws")
    with pytest.raises(ValueError, match="jigsaws: louo pools several folds; here one is wanted, of louo_B, "):
        catalogue.protocol_of(jigsaws, "louo")
    with pytest.raises(ValueError, match="no protocol 'lou'; .*; to pool folds, louo, loso, folds"):
        catalogue.protocol_of(jigsaws, "lou")
    assert {name for members in POOLED.values() for name in members} == {*PROTOCOLS}


@pytest.mark.parametrize("pooled", [{"louo_B": ("louo_C",)}, {"mine": ()}, {"mine": ("louo_Z",)}])
def test_a_row_that_pools_what_it_has_not_is_refused(pooled):
    row = dataclasses.replace(catalogue.get("jigsaws"), pooled=pooled)
    with pytest.raises(ValueError, match="must be a new name for some of its protocols"):
        catalogue.checked(row)


def test_the_results_hold_each_fold_and_no_oracle(pooled):
    fields = json.loads((pooled[0] / "results.json").read_text())
    assert set(fields["folds"]) == set(POOL_MEMBERS)
    assert fields["oracle"]["results"] == []
    assert fields["chosen"]["number"] is None
