"""Alarms trip where thresholds are crossed and nowhere else; those that cannot are named at the start."""

from __future__ import annotations

import math
import re

import pytest

from surgmotion_jax.pretrain.config.monitor import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.monitor.alarms import check_monitoring, collapse_alarms, spike_alarm
from surgmotion_jax.pretrain.monitor.watch import Watch
from tests.pretrain.fixtures import small_config

HEALTHY = {
    "gauge/rankme": 40.0,
    "gauge/prediction_std": 0.4,
    "gauge/target_std": 0.6,
    "gauge/context_target_cosine": 0.5,
}
PROBED = {"probe.benchmark": "cholec80", "probe.root": "here"}
LONG = {"steps": 1000, "run.log_every": 10, "heldout.every": 100, "checkpoint.every": 100}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gauge/rankme", 9.9),
        ("gauge/prediction_std", 0.09),
        ("gauge/target_std", 0.09),
        ("gauge/context_target_cosine", 0.99),
        ("gauge/rankme", math.nan),
    ],
)
def test_each_gauge_trips_alone_and_not_early(name, value):
    config = AlarmConfig(after=10)
    assert collapse_alarms(10, HEALTHY, config) == []
    (text,) = collapse_alarms(10, HEALTHY | {name: value}, config)
    assert name in text
    assert collapse_alarms(9, HEALTHY | {name: value}, config) == []


def test_a_spike_is_measured_against_the_median_of_those_before():
    config = AlarmConfig(spike=3.0, spike_window=5, after=0)
    earlier = [9.0, 1.0, 1.2, 50.0, 0.8, 1.0]  # the first is outside the window, one spike does not move the median
    assert spike_alarm(7, 3.0, earlier, config) == ""
    assert "(loss/total) is 3.01, above 3 x 1, the median of the last 5" in spike_alarm(7, 3.01, earlier, config)
    assert spike_alarm(7, 30.0, earlier[:4], config) == "", "too few losses say nothing"
    assert spike_alarm(7, 30.0, [math.nan, *earlier[2:]], config) == "", "a loss that is not finite does not count"
    assert spike_alarm(7, math.nan, earlier, config) == ""
    assert spike_alarm(7, 30.0, earlier, AlarmConfig(spike=0.0, spike_window=5, after=0)) == ""
    assert spike_alarm(7, 30.0, earlier, AlarmConfig(spike_window=5, after=8)) == ""


def rows(*skipped):
    return [{"optim/skipped": value} for value in skipped]


def test_warnings_end_nothing():
    told = []
    watch = Watch(AlarmConfig(after=0, spike_window=1), 0, lambda *event: told.append(event))
    watch.logged(1, 1.0, rows(0))
    watch.logged(2, 5.0, rows(0))
    watch.evaluated(2, HEALTHY | {"gauge/rankme": 1.0})
    assert watch.halt is None
    assert (watch.sound_logged, watch.sound_evaluated) == (1, 0)
    assert [step for step, text in told if text.startswith("alarm: ")] == [2, 2]


def test_what_is_sound_depends_on_the_kind_of_alarm():
    """A collapse may have begun right after the evaluation before; a spike is seen at the next logged loss."""

    def watched():
        watch = Watch(AlarmConfig(after=0, spike_window=1, action="rollback"), 0, lambda *_: None)
        watch.evaluated(10, HEALTHY)
        for step in (12, 14):
            watch.logged(step, 1.0, rows(0, 0))
        return watch

    spiked = watched()
    spiked.logged(16, 9.0, rows(0, 0))
    assert (spiked.halt.kind, spiked.halt.step, spiked.halt.sound) == ("alarm", 16, 14)
    collapsed = watched()
    collapsed.evaluated(20, HEALTHY | {"gauge/rankme": 1.0})
    assert (collapsed.halt.step, collapsed.halt.sound) == (20, 10)
    both = watched()
    both.logged(20, 9.0, rows(0))
    both.evaluated(20, HEALTHY | {"gauge/rankme": 1.0})
    assert both.halt.sound == 10
    assert "loss/total" in both.halt.reason
    assert "gauge/rankme" in both.halt.reason


def test_skipped_updates_are_counted_across_logged_intervals():
    watch = Watch(AlarmConfig(nonfinite_steps=4), 0, lambda *_: None)
    watch.logged(4, 1.0, rows(0, 1, 1, 1))
    watch.logged(8, 1.0, rows(0, 0, 1, 1))
    assert watch.halt is None
    watch.logged(10, 1.0, rows(1, 1))
    assert watch.halt.kind == "nonfinite"


def test_a_run_with_working_alarms_says_nothing():
    assert check_monitoring(small_config(**LONG)) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alarms.after": 1001}, "rankme, alarms.prediction_std.*cannot trip: alarms.after is 1001, past the last"),
        ({"alarms.rankme": 0.0}, "alarms.rankme cannot trip: no gauge is below 0"),
        ({"alarms.prediction_std": -1.0}, "alarms.prediction_std cannot trip: no gauge is below -1"),
        ({"alarms.target_std": 0.0}, "alarms.target_std cannot trip"),
        ({"alarms.cosine": 1.0}, "alarms.cosine cannot trip: no cosine is above 1"),
        ({"alarms.spike": 0.0}, "alarms.spike cannot trip: it is 0"),
        ({"alarms.rankme": 385.0}, "alarms.rankme is 385, which trips at every evaluation: .* at most 288 here"),
        ({"alarms.target_std": 1.1}, "alarms.target_std is 1.1, which trips at every evaluation"),
        ({"alarms.cosine": -1.5}, "alarms.cosine is -1.5, which trips at every evaluation"),
        ({"run.log_every": 100}, "alarms.spike cannot trip: alarms.spike_window is 20, but only 10 losses are logged"),
        (
            {"alarms.action": "rollback"},
            "before step 200 may find no checkpoint .*alarms.after 200, checkpoint.every 100",
        ),
    ],
)
def test_an_alarm_that_cannot_trip_or_always_does_is_named(changes, words):
    (note,) = check_monitoring(small_config(**(LONG | changes)))
    assert re.search(words, note), note


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alarms.action": "stop", "alarms.rankme": 385.0}, "'stop', but alarms.rankme is 385, which trips at every"),
        ({"alarms.action": "stop", "alarms.after": 2000}, "action is 'stop', but no alarm can trip"),
        ({"alarms.action": "rollback", "checkpoint.every": 1000}, "checkpoint.every 1000 is not below steps 1000"),
        ({"alarms.action": "rollback", "checkpoint.every": 10}, "10 steps apart, may all lie after the evaluation"),
        (
            {"alarms.action": "rollback", "checkpoint.keep_best": "probe/knn", "probe.every": 20, **PROBED},
            "20 steps apart, may all lie after",
        ),
        ({"checkpoint.keep_best": "probe/knn"}, "keep_best is 'probe/knn', but there is no probe"),
        ({"checkpoint.keep_best": "probe/kn"}, "keep_best is 'probe/kn'.*probe/knn"),
    ],
)
def test_what_contradicts_itself_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        check_monitoring(small_config(**(LONG | changes)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AlarmConfig(action="panic"), "alarms.action is 'panic'.*warn"),
        (lambda: AlarmConfig(spike=0.5), "alarms.spike is 0.5; .*factor above 1, or 0"),
        (lambda: AlarmConfig(spike_window=0), "alarms.spike_window"),
        (lambda: AlarmConfig(rollbacks=0), "alarms.rollbacks"),
        (lambda: AlarmConfig(nonfinite_steps=0), "alarms.nonfinite_steps"),
        (lambda: AlarmConfig(after=-1), "alarms.after"),
        (lambda: ProbeConfig(benchmark="cholec80"), "probe.root is empty; .*--config.probe.root=DIR"),
        (lambda: ProbeConfig(root="somewhere"), "probe.benchmark is empty"),
        (lambda: ProbeConfig(windows=1), "probe.windows"),
        (lambda: ProbeConfig(every=0), "probe.every"),
        (lambda: ProbeConfig(ridge=0.0), "probe.ridge is 0.0; it must be positive"),
        (lambda: ProbeConfig(resize="crop"), "probe.resize is 'crop'"),
    ],
)
def test_fields_are_checked_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
