"""Evaluations whose encoder is trained: the same choice and report as of frozen ones, and never mixed with them."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from surgmotion_jax.evaluate import cohort
from surgmotion_jax.evaluate.compare.columns import read_columns
from surgmotion_jax.evaluate.compare.comparison import compare
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.runs.evaluation import describe
from tests.benchmarks.simulated import make
from tests.evaluate.evaluations import SMALL, changed, read

TUNED = changed(SMALL, finetune={"blocks": "last:1", "remat": "none"}, sweep={"epochs": 1})


@pytest.fixture(scope="module")
def finished(root, source, tmp_path_factory):
    workdir, said = tmp_path_factory.mktemp("tuned"), []
    evaluate(TUNED, source, str(root), workdir, say=said.append)
    return workdir, said


def test_the_report_is_that_of_every_evaluation(finished, source):
    workdir, said = finished
    fields = read(workdir / "results.json")
    assert [row["name"] for row in fields["candidates"]] == ["lr=0.03 wd=0.01", "lr=0.01 wd=0.01"]
    assert fields["chosen"]["name"] == read(workdir / "choice.json")["chosen"]["name"]
    assert fields["config"]["finetune"]["blocks"] == "last:1"
    assert "the encoder was fine-tuned (last:1), not frozen" in fields["notes"]
    assert len((workdir / "predictions.csv").read_text().splitlines()) == 1 + 24
    assert said[0].startswith("fine-tuning last:1: ")  # said before a window is decoded
    assert "fine-tuned: last:1; encoder small:0" in describe(TUNED, source)


def test_windows_are_kept_as_pixels_once(finished, root, source):
    kept = sorted((finished[0] / "features").glob("*/*.npy"))
    assert len(kept) == 6
    assert {(np.load(path).dtype.name, np.load(path).shape) for path in kept} == {("uint8", (8, 2, 16, 16, 3))}


def test_a_finished_evaluation_is_left_as_it_is_and_another_part_is_another_evaluation(finished, root, source):
    said: list[str] = []
    evaluate(TUNED, source, str(root), finished[0], say=said.append)
    assert said == ["this evaluation is finished"]
    with pytest.raises(ValueError, match="another evaluation:\n  evaluation.config.finetune.blocks: 'last:1' in the"):
        evaluate(changed(TUNED, finetune={"blocks": "full"}), source, str(root), finished[0])
    with pytest.raises(ValueError, match="another evaluation:\n  evaluation.config.finetune: "):
        evaluate(changed(SMALL, sweep={"epochs": 1}), source, str(root), finished[0])


def test_frozen_evaluations_say_nothing_of_it():
    assert "finetune" not in SMALL.result_fields
    assert EvaluateConfig().finetune.blocks == "none"


def test_the_tuned_encoder_is_scored_elsewhere_as_it_was(finished, root, source, tmp_path):
    """A quarter of the test cases less, with the encoder and head that were chosen."""
    fewer = shutil.copytree(root, tmp_path / "set")
    (fewer / "phase_annotations" / "video43-phase.txt").unlink()
    fields = evaluate(TUNED, source, str(fewer), tmp_path / "run", probe=str(finished[0]))
    wanted = (finished[0] / "predictions.csv").read_text().splitlines()
    assert (tmp_path / "run" / "predictions.csv").read_text().splitlines() == wanted[:17]
    assert fields["probe"][0]["head"] == read(finished[0] / "choice.json")["chosen"]["name"]
    with pytest.raises(ValueError, match=r"other features or cases:\n  head.finetune.blocks: 'last:1' in the folder"):
        evaluate(SMALL, source, str(root), tmp_path / "frozen", probe=str(finished[0]))


@pytest.mark.parametrize(("name", "head"), [("polyp_segmentation", "dense"), ("cholect50", "attentive")])
def test_other_heads_and_families_are_tuned_too(tmp_path, source, name, head):
    dense = head == "dense"
    root = make(name, tmp_path / "set", 12 if dense else 4, 2.0, fps=2)
    config = changed(
        TUNED,
        data={"benchmark": name, "frames": 1 if dense else 2},
        probe={"head": head, "layers": (0, 1) * dense},
        finetune={"blocks": "full", "remat": "full"},
        sweep={"learning_rates": (1e-3,)},
    )
    fields = evaluate(config, source, str(root), tmp_path / "run")
    assert all(np.isfinite(row["value"]) for row in fields["chosen"]["results"])


# ---- beside frozen ones ----


@pytest.fixture(scope="module")
def frozen(root, source, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("frozen")
    evaluate(changed(SMALL, sweep={"epochs": 1}), source, str(root), workdir)
    return workdir


def test_a_table_says_which_column_was_tuned(finished, frozen):
    (table,) = compare(read_columns([str(frozen), str(finished[0])], ("still", "tuned")))
    assert "tuned has a fine-tuned (last:1) encoder, still a frozen one" in table.notes


def test_seeds_of_one_column_are_tuned_alike(finished, frozen):
    with pytest.raises(ValueError, match=r"differ in more than seeds:\n  config.finetune: None and \{"):
        read_columns([f"{frozen},{finished[0]}"])


def test_a_column_of_the_summary_is_tuned_on_every_benchmark_or_on_none(finished, frozen):
    columns = read_columns([str(frozen), str(finished[0])])
    other = [_elsewhere(column) for column in columns]
    compare([*columns, *other])
    with pytest.raises(ValueError, match="frozen and fine-tuned .last:1. encoders are never mixed in one"):
        compare([*columns, *other[::-1]])


def _elsewhere(column):
    """The column as one of another benchmark."""
    runs = [dataclasses.replace(run, fields=run.fields | {"benchmark": "autolaparo"}) for run in column.runs]
    return dataclasses.replace(column, runs=tuple(runs))


# ---- what cannot be ----


def test_features_of_another_encoder_are_refused_before_the_workdir_is_claimed(root, tmp_path):
    with pytest.raises(ValueError, match="finetune.blocks is last:1, but features of another encoder were given"):
        evaluate(TUNED, Source(features=str(tmp_path)), str(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_blocks_than_the_encoder_has_are_refused_before_the_workdir_is_claimed(root, source, tmp_path):
    config = changed(TUNED, finetune={"blocks": "last:9"})
    with pytest.raises(ValueError, match="finetune.blocks is last:9, but the encoder has 2 blocks"):
        evaluate(config, source, str(root), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_share_of_the_cases_without_a_clip_is_refused(root, source, tmp_path, monkeypatch):
    (case, *_) = cohort.read_cohort(SMALL.data, str(root)).train
    empty = dataclasses.replace(case, times_N=case.times_N[:0])
    monkeypatch.setattr(cohort, "drawn", lambda *arguments: (empty,))
    config = changed(TUNED, data={"fraction": 0.1})
    with pytest.raises(ValueError, match=f"data.fraction is 0.1, which leaves {case.id} to learn from, without"):
        evaluate(config, source, str(root), tmp_path / "run")
