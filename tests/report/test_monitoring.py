"""What watched over a run shows in its report: probe, alarms, rollbacks, and the thresholds it was run with."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from surgmotion_jax.report.curves import COLLAPSE, PROBE, curves, event_marks, panel_chart
from surgmotion_jax.report.run import load_run
from surgmotion_jax.report.tables import events, subtitle
from surgmotion_jax.report.verdict import alarm_sentence, read_gauges, verdict

HEALTHY = {
    "heldout/loss": 0.9,
    "heldout/constant": 1.0,
    "heldout/shuffled": 1.2,
    "gauge/rankme": 40.0,
    "gauge/prediction_std": 0.4,
    "gauge/target_std": 0.6,
}


def workdir(folder: pathlib.Path, *records: dict[str, Any], config: Any = None) -> pathlib.Path:
    lines = [json.dumps({"time": 1.77e9 + number, "metrics": {}, **record}) for number, record in enumerate(records)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def heldout(step: int, **more: float) -> dict[str, Any]:
    return {"kind": "heldout", "step": step, "metrics": HEALTHY | {f"probe/{k}": v for k, v in more.items()}}


def event(step: int, text: str) -> dict[str, Any]:
    return {"kind": "event", "step": step, "text": text}


def probed(step: int, value: float) -> dict[str, Any]:
    names = ("knn", "linear", "chance", "knn_balanced", "linear_balanced")
    return heldout(step, **dict.fromkeys(names, value), chance_balanced=0.25)


def test_the_probe_is_drawn_in_percent_and_judged_against_chance(tmp_path: pathlib.Path) -> None:
    run = load_run(workdir(tmp_path, probed(0, 0.2), probed(100, 0.5)))
    assert [chart.lines[0].value_N.tolist() for chart in (panel_chart(run, panel) for panel in PROBE)] == [[20, 50]] * 2
    gauge = read_gauges(run)["probe"]
    assert (gauge.value, gauge.first, gauge.at_least, gauge.state) == (50.0, 20.0, 25.0, "ok")
    assert "Frozen probe" in curves(run).html
    assert "Probe: mean recall" in verdict(run).html
    low = load_run(workdir(tmp_path, probed(0, 0.2), probed(100, 0.24)))
    assert read_gauges(low)["probe"].state == "watch"
    assert "better than both baselines" in verdict(low).html, "the probe is shown beside the verdict, and is not in it"


def test_a_run_without_a_probe_shows_none(tmp_path: pathlib.Path) -> None:
    run = load_run(workdir(tmp_path, heldout(0), heldout(100)))
    assert "probe" not in read_gauges(run)
    assert "Frozen probe" not in curves(run).html


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        ([], ""),
        ([event(50, "alarm: x")], "One alarm was raised during training"),
        ([event(50, "alarm: x"), event(60, "alarm: y")], "2 alarms were raised during training"),
        (
            [event(20, "rollback 1 of at most 3: from step 50 to the checkpoint of step 20")],
            "The run went back to an earlier checkpoint once during training",
        ),
        (
            [event(20, "rollback 1"), event(20, "rollback 2"), event(50, "alarm: x"), event(50, "stopped: x")],
            "One alarm was raised, the run went back to an earlier checkpoint 2 times, the run was stopped before",
        ),
        ([event(50, "stopped: x"), event(50, "resume")], ""),
    ],
)
def test_what_happened_is_said_in_a_sentence(tmp_path: pathlib.Path, happened: list[dict[str, Any]], told: str) -> None:
    sentence = alarm_sentence(load_run(workdir(tmp_path, heldout(0), *happened)))
    assert sentence.startswith(told)
    assert bool(sentence) == bool(told)


def test_marks_stand_where_it_happened_one_a_step(tmp_path: pathlib.Path) -> None:
    happened = (event(20, "rollback 1"), event(20, "rollback 2"), event(50, "alarm: x"), event(60, "resume"))
    run = load_run(workdir(tmp_path, heldout(0), *happened, event(70, "alarm: y"), event(70, "stopped: y")))
    marks = [(mark.step, mark.label, mark.alarm) for mark in event_marks(run)]
    assert marks == [(20, "rollback", True), (50, "alarm", True), (60, "resumed", False), (70, "stopped", True)]
    assert "stopped early" in subtitle(run)
    assert events(run).html.count('class="alarm"') == 5


def test_thresholds_are_those_of_the_run(tmp_path: pathlib.Path) -> None:
    config = {"alarms": {"rankme": 50.0, "cosine": 0.7, "target_std": "much"}}
    run = load_run(workdir(tmp_path, heldout(0), heldout(100), config=config))
    gauges = read_gauges(run)
    assert (gauges["rankme"].at_least, gauges["rankme"].state) == (50.0, "watch")
    assert gauges["target_std"].at_least == 0.1, "what cannot be read is the usual one"
    limits = {panel.title: panel_chart(run, panel).limit for panel in COLLAPSE}
    assert limits["RankMe of the targets"] == (50.0, "threshold 50")
    assert limits["Context and target"] == (0.7, "threshold 0.7")
