"""Predictions read back from text give the numbers that were computed from memory."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.evaluate.config import ReportConfig
from surgmotion_jax.evaluate.results import (
    PREDICTIONS_FILE,
    RESULTS_FILE,
    read_predictions,
    read_results,
    scored_json,
    sd_over_cases,
    write_predictions,
    write_results,
)
from surgmotion_jax.evaluate.tasks.depth import DepthTask
from surgmotion_jax.evaluate.tasks.segmentation import SegmentationTask
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.task import score
from surgmotion_jax.evaluate.tasks.triplet import TripletTask
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask

RNG = np.random.default_rng(0)
PARTS_6x3 = np.array([[i, v, 0] for i in range(2) for v in range(3)])


def pictures(count):
    label = RNG.random((count, 4, 4)) < 0.5
    return RNG.random((count, 4, 4)).astype(np.float32), {"label": label, "mask": np.ones_like(label)}


def depths(count):
    truth = RNG.uniform(10, 20, (count, 4, 4)).astype(np.float32)
    return truth + 1, {"label": truth, "mask": RNG.random((count, 4, 4)) < 0.7}


MADE = {
    "workflow": (
        WorkflowTask(("a", "b", "c")),
        lambda n: (RNG.random((n, 3)).astype(np.float32), {"label": RNG.integers(0, 3, n)}),
    ),
    "triplet": (
        TripletTask(tuple("abcdef"), PARTS_6x3),
        lambda n: (RNG.random((n, 9)).astype(np.float32), {"label": (RNG.random((n, 6)) < 0.3).astype(int)}),
    ),
    "skill": (
        SkillTask(("suturing", "knots")),
        lambda n: (RNG.random(n), {"label": RNG.random(n), "task": RNG.integers(0, 2, n)}),
    ),
    "segmentation": (SegmentationTask(), pictures),
    "depth": (DepthTask(), depths),
}


@pytest.mark.parametrize("name", MADE)
def test_a_table_that_is_read_and_written_again_is_the_same_text(tmp_path, name):
    task, make = MADE[name]
    table = task.columns(*make(7))
    digest = write_predictions(tmp_path / "first", ["case"], [np.arange(7.0)], [table])
    (again,) = read_predictions(tmp_path / "first").values()
    assert write_predictions(tmp_path / "second", ["case"], [again.pop("time")], [again]) == digest


def test_deviation_over_videos_is_of_measures_that_are_means_over_them():
    task, make = MADE["workflow"]
    tables = [task.columns(*make(n)) for n in (7, 5, 9)]
    measures = task.measures(tables)
    (row,) = [row for row in sd_over_cases(measures, 3) if row["metric"] == "edit_score"]
    each = [next(m for m in task.measures([t]) if m.name == "edit_score").statistic(np.arange(1)) for t in tables]
    assert np.ptp(each) > 0
    assert (row["sd"], row["cases"]) == (pytest.approx(np.std(each) * np.sqrt(3 / 2), abs=1e-12), 3)
    assert all(row["convention"].startswith("mean over videos") for row in sd_over_cases(measures, 3))
    assert sd_over_cases(task.measures(tables[:1]), 1) == []


@pytest.mark.parametrize("name", MADE)
def test_every_number_can_be_computed_from_the_file(tmp_path, name):
    task, make = MADE[name]
    tables = [task.columns(*make(n)) for n in (7, 5, 9)]
    cases, times = ["one", "two, with a comma", "three"], [np.arange(n) / 3 for n in (7, 5, 9)]
    digest = write_predictions(tmp_path, cases, times, tables)
    found = read_predictions(tmp_path)
    assert list(found) == cases
    np.testing.assert_array_equal(found["one"]["time"], times[0])
    report = ReportConfig(resamples=20)
    memory = score("set", task.measures(tables), 3, report)
    file = score("set", task.measures(list(found.values())), 3, report)
    assert file == memory
    assert len(memory.results) >= 3
    assert write_predictions(tmp_path / "again", cases, times, tables) == digest


def test_results_are_read_back_and_must_be_finite(tmp_path):
    task, make = MADE["workflow"]
    scored = score("set", task.measures([task.columns(*make(6))]), 1, ReportConfig())
    assert all(result.interval is None for result in scored.results)
    write_results(tmp_path, {"chosen": scored_json(scored)})
    assert read_results(tmp_path)["chosen"] == scored_json(scored)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(tmp_path, {"value": float("nan")})


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"results.json: no such file; name the workdir of a finished"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match=r"predictions.csv: no such file"):
        read_predictions(tmp_path)
    (tmp_path / RESULTS_FILE).write_text('{"schema_version": 7}')
    with pytest.raises(ValueError, match="schema_version 7, this version reads 1"):
        read_results(tmp_path)
    for text, match in (
        ("case,truth\n", r"predictions.csv:1: columns case, truth; the first must be case, time"),
        ("case,time,truth\na,0.0\n", r"predictions.csv:2: 2 cells, the header has 3"),
        ("case,time,truth\na,0.0,1\na,0.0,1\n", "case 'a' has a moment twice"),
    ):
        (tmp_path / PREDICTIONS_FILE).write_text(text)
        with pytest.raises(ValueError, match=match):
            read_predictions(tmp_path)
