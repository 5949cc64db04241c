"""The verdict says what the held-out numbers say, and the run record hands them over unchanged."""

import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest

from surgmotion_jax.report.curves import SPEED, Panel, curves, groups, panel_chart, running_median, throughput
from surgmotion_jax.report.run import load_run
from surgmotion_jax.report.tables import clock, duration, subtitle
from surgmotion_jax.report.verdict import THRESHOLDS, read_gauges, verdict

GOOD = {
    "heldout/loss": 0.90,
    "heldout/constant": 1.00,
    "heldout/shuffled": 1.20,
    "gauge/rankme": 40.0,
    "gauge/prediction_std": 0.4,
    "gauge/target_std": 0.6,
}


def _workdir(folder: pathlib.Path, *records: dict[str, Any]) -> pathlib.Path:
    lines = [json.dumps({"time": 1.77e9 + number, "metrics": {}, **record}) for number, record in enumerate(records)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _heldout(step: int = 100, **changes: float | None) -> dict[str, Any]:
    renamed = {name: changes.get(name.split("/")[1], value) for name, value in GOOD.items()}
    return {"kind": "heldout", "step": step, "metrics": renamed}


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({}, "better than both baselines"),
        ({"loss": 0.97}, "ahead of both baselines, but not clearly yet"),
        ({"constant": 0.91}, "ahead of both baselines, but not clearly yet"),
        ({"loss": 1.01}, "does not yet beat a prediction that ignores the clip"),
        ({"shuffled": 0.85}, "does not yet beat a prediction that ignores the clip"),
        ({"rankme": 3.0}, "may be collapsing: RankMe of the targets is too low"),
        ({"prediction_std": 0.01, "target_std": 0.02}, "may be collapsing: prediction std and target std are too low"),
        ({"loss": None}, "evaluation is incomplete"),
        ({"constant": 0.0}, "evaluation is incomplete"),
    ],
)
def test_headline(tmp_path: pathlib.Path, changes: dict[str, float | None], headline: str) -> None:
    assert headline in verdict(load_run(_workdir(tmp_path, _heldout(**changes)))).html


def test_gains_are_percent_of_the_baseline(tmp_path: pathlib.Path) -> None:
    gauges = read_gauges(load_run(_workdir(tmp_path, _heldout(0, loss=1.1), _heldout(100))))
    assert gauges["constant"].value == pytest.approx(10.0)
    assert gauges["shuffled"].value == pytest.approx(25.0)
    assert gauges["constant"].first == pytest.approx(-10.0)
    assert [gauge.state for gauge in gauges.values()] == ["ok"] * 5


@pytest.mark.parametrize("name", ["rankme", "prediction_std", "target_std"])
def test_marks_turn_at_their_threshold(tmp_path: pathlib.Path, name: str) -> None:
    limit = getattr(THRESHOLDS, name)
    for value, state in ((limit, "ok"), (0.999 * limit, "watch"), (None, "none")):
        gauge = read_gauges(load_run(_workdir(tmp_path, _heldout(**{name: value}))))[name]
        assert gauge.state == state


def test_a_gauge_of_an_older_evaluation_is_not_passed_off_as_current(tmp_path: pathlib.Path) -> None:
    newer = _heldout(200)
    del newer["metrics"]["gauge/rankme"]
    gauges = read_gauges(load_run(_workdir(tmp_path, _heldout(100), newer)))
    assert math.isnan(gauges["rankme"].value)
    assert gauges["rankme"].state == "none"


def test_rising_loss_is_explained_and_alarms_are_counted(tmp_path: pathlib.Path) -> None:
    alarm = {"kind": "event", "step": 50, "text": "alarm: prediction std is 0.02"}
    html = verdict(load_run(_workdir(tmp_path, _heldout(0), alarm, _heldout(100)))).html
    assert "first falls and then rises is normal" in html
    assert "One alarm was raised" in html
    assert "alarm" not in verdict(load_run(_workdir(tmp_path, _heldout(0)))).html


def test_series_are_sorted_keep_nulls_and_the_last_of_a_step(tmp_path: pathlib.Path) -> None:
    values = ((4, 1.0), (2, 5.0), (6, None), (4, 3.0))
    records = [{"kind": "train", "step": step, "metrics": {"loss/total": value}} for step, value in values]
    step_N, value_N = load_run(_workdir(tmp_path, *records, _heldout())).series("train", "loss/total")
    assert step_N.tolist() == [2, 4, 6]
    np.testing.assert_array_equal(value_N, [5.0, 3.0, np.nan])


def test_every_logged_metric_has_a_chart(finished_workdir: pathlib.Path) -> None:
    run = load_run(finished_workdir)
    logged = {(entry.kind, name) for entry in run.entries for name in entry.metrics}
    panels: list[Panel] = [*SPEED, *(panel for _, group in groups(run) for panel in group)]
    drawn = {(curve.kind, curve.name) for panel in panels for curve in panel.curves}
    # The training-time spreads repeat the held-out ones on a noisier sample.
    assert logged - drawn == {("train", "gauge/prediction_std"), ("train", "gauge/target_std")}
    assert drawn <= logged


def test_chart_holds_the_logged_numbers(finished_workdir: pathlib.Path) -> None:
    run = load_run(finished_workdir)
    (panel,) = (panel for _, group in groups(run) for panel in group if panel.title == "Active dimensions")
    chart = panel_chart(run, panel)
    np.testing.assert_array_equal(chart.lines[0].value_N, 100 * run.series("train", "gauge/active_dims")[1])
    assert [(mark.step, mark.label) for mark in chart.marks] == [(120, "resumed")]


def test_what_stays_constant_is_said_not_drawn(finished_workdir: pathlib.Path) -> None:
    html = curves(load_run(finished_workdir)).html
    assert "Constant throughout: weight decay 0.0400." in html
    assert "<b>Weight decay" not in html
    assert "<b>Learning rate" in html


@pytest.mark.parametrize(("share", "told"), [(0.02, "data keeps up"), (0.4, "more than it should")])
def test_waiting_for_data_is_judged(tmp_path: pathlib.Path, share: float, told: str) -> None:
    records = [
        {"kind": "train", "step": step, "metrics": {"time/data_wait_share": share, "speed/clips_per_s": 12.5}}
        for step in range(5)
    ]
    html = throughput(load_run(_workdir(tmp_path, *records))).html
    assert told in html
    assert "12.5 clips per second" in html


def test_running_median_ignores_spikes_and_keeps_gaps() -> None:
    value_N = np.ones(200)
    value_N[50], value_N[90:93] = 1e6, np.nan
    median_N = running_median(value_N)
    assert np.isnan(median_N[90:93]).all()
    assert (np.delete(median_N, [90, 91, 92]) == 1).all()


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("finished", "finished"),
        ("interrupted by SIGTERM", "interrupted"),
        ("resume from 5", "still running, or stopped"),
    ],
)
def test_subtitle_says_where_the_run_stands(tmp_path: pathlib.Path, text: str, state: str) -> None:
    start = {"kind": "event", "step": 0, "text": "start"}
    event = {"kind": "event", "step": 9, "text": text}
    assert state in subtitle(load_run(_workdir(tmp_path, start, _heldout(), event)))


def test_pauses_are_not_training_time(finished_workdir: pathlib.Path) -> None:
    run = load_run(finished_workdir)
    assert [round(last - first) for first, last in run.sessions()] == [108, 108]
    assert "3 min 36 s of training" in subtitle(run)


def test_times_and_spans_as_people_write_them() -> None:
    assert [duration(seconds) for seconds in (45.2, 61, 7_265)] == ["45 s", "1 min 1 s", "2 h 1 min"]
    assert clock(1_770_000_000) == "2026-02-02 02:40:00 UTC"
    assert clock(math.nan) == "no time"
