"""Folds pooled: every case is tested once, by heads that never saw it, and scored with all others."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.jigsaws import POOLED, PROTOCOLS
from surgmotion_jax.commands.evaluate import table
from surgmotion_jax.evaluate import folds
from surgmotion_jax.evaluate.cohort import read_cohort
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.folds import evaluate_protocol
from surgmotion_jax.evaluate.results import ONE_CASE, read_predictions
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.evaluate.tasks.families import task_of_results
from surgmotion_jax.pages.evaluation import results_section
from tests.benchmarks.simulated import make
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


def test_predictions_are_those_of_the_folds_letter_by_letter(pooled):
    def rows(folder):
        return (folder / "predictions.csv").read_text().splitlines()

    workdir, _ = pooled
    expected = [row for fold in POOL_MEMBERS for row in rows(workdir / fold)[1:]]
    assert rows(workdir) == [rows(workdir / POOL_MEMBERS[0])[0], *expected]


def test_mean_and_deviation_are_over_folds(pooled):
    fields = read(pooled[0] / "results.json")
    rows = {(row["metric"], row["convention"]): row for row in fields["folds_mean_sd"]["results"]}
    key = ("accuracy", "all clips pooled")
    each = [row["value"] for fold in fields["folds"].values() for row in fold if row["metric"] == "accuracy"]
    assert len(each) == rows[key]["folds"] == len(POOL_MEMBERS)
    assert np.ptp(each) > 0
    assert rows[key]["mean"] == pytest.approx(np.mean(each), abs=1e-12)
    assert rows[key]["sd"] == pytest.approx(np.sqrt(np.sum((each - np.mean(each)) ** 2) / (len(each) - 1)), abs=1e-12)


def test_a_measure_counts_the_folds_that_define_it():
    def fold(**values):
        return {"chosen": {"results": [{"metric": n, "convention": "c", "value": v} for n, v in values.items()]}}

    found = folds.over_folds({"a": fold(mae=1.0), "b": fold(mae=4.0, spearman=0.5)})
    assert [(row["metric"], row["mean"], row["folds"]) for row in found] == [("mae", 2.5, 2), ("spearman", 0.5, 1)]
    assert found[0]["sd"] == pytest.approx(3 / np.sqrt(2))
    assert found[1]["sd"] is None


def test_a_note_is_listed_once_with_the_folds_that_have_it():
    notes = {"a": ["every", "one", ONE_CASE], "b": ["every"], "c": ["one", "every", "other"]}
    assert folds.notes_of_folds(notes) == ["all folds: every", "a, c: one", "c: other"]


def test_what_is_said_of_a_pool_speaks_of_its_folds(pooled):
    fields = read(pooled[0] / "results.json")
    words = f"over {len(POOL_MEMBERS)} folds"
    assert words in table(fields)[0]
    assert words in results_section(fields).html
    one = read(pooled[0] / POOL_MEMBERS[0] / "results.json")
    assert "folds" not in table(one)[0]
    assert words not in results_section(one).html


def test_pooled_ranks_are_said_to_mix_heads(source, tmp_path):
    root = make("jigsaws", tmp_path / "set", 24, 1.0, fps=2)
    config = changed(POOL, data={"benchmark": "jigsaws", "protocol": "folds", "fps": 1.0})
    fields = evaluate_protocol(config, source, str(root), tmp_path / "run")
    assert folds.RANKS_NOTE in fields["notes"]
    assert [note for note in fields["notes"] if note.startswith("all folds: sweep.class_weights is balanced")]


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


def test_features_of_another_encoder_are_known_by_all_their_files(root, tmp_path):
    cohort = read_cohort(dataclasses.replace(POOL.data, protocol=POOL_MEMBERS[0]), str(root))
    for number, case in enumerate([*cohort.train, *cohort.val, *cohort.test]):
        features = np.random.default_rng(number).normal(size=(len(case.times_N), 4))
        path = tmp_path / "feat" / f"{case.id}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_npz({"features": features, "time": case.times_N}))
    fields = evaluate_protocol(POOL, Source(features=str(tmp_path / "feat")), str(root), tmp_path / "run")
    assert fields["encoder"] == read(tmp_path / "run" / "config.json")["encoder"]
    assert fields["encoder"]["features"] == "feat"
    path.write_bytes(to_npz({"features": features + 1, "time": case.times_N}))
    with pytest.raises(ValueError, match="evaluation.encoder.files"):
        evaluate_protocol(POOL, Source(features=str(tmp_path / "feat")), str(root), tmp_path / "run")


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
