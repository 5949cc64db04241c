"""The loop's order of events, with a step that only counts: what is saved, probed, logged, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from surgmotion_jax.pretrain import loop
from surgmotion_jax.pretrain.loop import Services, train
from surgmotion_jax.pretrain.sample.masks import mask_programs, program_of_step
from surgmotion_jax.pretrain.state import TrainState
from tests.pretrain.fixtures import small_config

HEALTHY = {
    "heldout/loss": 0.9,
    "heldout/constant": 1.0,
    "heldout/shuffled": 1.0,
    "gauge/rankme": 50.0,
}
PROBED = ("probe/knn", "probe/linear", "probe/chance")


class Run:
    """Runs the loop over batches that are their own numbers; losses, gauges and probe values are given by step."""

    def __init__(self, losses=None, rankme=None, knn=None, stop_at=None, **changes):
        base = {"steps": 12, "run.log_every": 1, "heldout.every": 4, "checkpoint.every": 3, "alarms.after": 0}
        self.config = small_config(**(base | changes))
        self.losses, self.rankme, self.knn, self.stop_at = losses or {}, rankme or {}, knn, stop_at
        self.records, self.events, self.saved, self.seen, self.names = [], [], [], [], []

    def step(self, state, batch):
        self.seen.append(batch)
        metrics = {"loss/total": self.losses.get(batch, 1.0), "loss/l1": 1.0, "optim/lr": 1.0, "optim/skipped": 0.0}
        if metrics["loss/total"] != metrics["loss/total"]:
            metrics["optim/skipped"] = 1.0
        return state._replace(step=state.step + 1), metrics

    def probe(self, state):
        value = self.knn[int(state.step)]
        return {f"{name}{kind}": value for name in PROBED for kind in ("", "_balanced")}

    def go(self, begin=0, passed_over=0, best=float("-inf"), **services):
        programs = mask_programs(self.config.mask, self.config.grid)
        self.programs = [p.name for p in programs]
        services = {
            "batches": iter(range(begin + passed_over, 1000)),
            "evaluate": lambda state: (
                HEALTHY | {"gauge/rankme": self.rankme.get(int(state.step), 50.0)},
                None,
            ),
            "save": lambda step, _, value: self.saved.append((step, value)),
            "record": lambda kind, step, metrics: self.records.append((kind, step, metrics)),
            "event": lambda step, text: self.events.append((step, text)),
            "progress": lambda *_: None,
            "picture": lambda *_: None,
            "interrupted": lambda position: position == self.stop_at,
            "memory_gb": lambda: 0.0,
            "probe": self.probe if self.knn else None,
        } | services
        step = {
            name: lambda state, batch, name=name: self.names.append(name) or self.step(state, batch)
            for name in self.programs
        }
        state = TrainState(jnp.int32(begin), {}, {}, None)
        do = Services(**services, passed_over=passed_over, best=best)
        return train(self.config, programs, step, state, do)

    def series(self, name):
        return {step: metrics[name] for _, step, metrics in self.records if name in metrics}


def test_a_run_saves_on_its_beat_and_at_the_end():
    run = Run(**{"checkpoint.every": 5})
    state, ending = run.go()
    assert (ending.kind, int(state.step)) == ("finished", 12)
    assert run.saved == [(5, None), (10, None), (12, None)]
    assert list(run.series("heldout/loss")) == [0, 4, 8, 12]


def test_an_interrupted_run_saves_where_it_is():
    run = Run(stop_at=7)
    _, ending = run.go()
    assert (ending.kind, ending.step) == ("interrupted", 7)
    assert run.saved[-1] == (7, None)


@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_an_alarm_ends_the_stretch_before_anything_is_saved(action):
    """The collapse is found at step 6, where a checkpoint is due too."""
    collapse = Run(rankme={6: 2.0}, **{"heldout.every": 2, "alarms.action": action})
    _, ending = collapse.go()
    assert (ending.kind, ending.step, ending.sound) == ("alarm", 6, 4)
    assert "gauge/rankme" in ending.reason
    assert collapse.saved == [(3, None)]
    assert [step for step, text in collapse.events if text.startswith("alarm: ")] == [6]


def test_an_alarm_that_only_warns_changes_nothing():
    run = Run(rankme={4: 2.0}, losses={9: 90.0}, **{"alarms.spike_window": 3})
    _, ending = run.go()
    assert ending.kind == "finished"
    assert [step for step, _ in run.events] == [4, 10]
    assert [step for step, _ in run.saved] == [3, 6, 9, 12]


def test_a_spike_ends_the_stretch_at_its_logged_step():
    run = Run(losses={8: 50.0}, **{"alarms.action": "rollback", "alarms.spike_window": 3})
    _, ending = run.go()
    assert (ending.kind, ending.step, ending.sound) == ("alarm", 9, 8)
    assert run.saved == [(3, None), (6, None)]


def test_after_a_rollback_the_data_and_the_masks_are_those_of_later_steps():
    many = {"mask.ratios": (0.5, 0.6, 0.7, 0.8), "steps": 40}
    straight = Run(**many)
    straight.go()
    moved = Run(**many)
    moved.go(begin=6, passed_over=5)
    assert moved.seen[0] == 11
    assert moved.names[:20] == straight.names[11:31]
    assert moved.names[:20] != straight.names[6:26], "without the rollback they would differ"
    config, programs = moved.config, mask_programs(moved.config.mask, moved.config.grid)
    assert moved.names[0] == program_of_step(programs, config.seed, 11).name


def test_the_best_probe_so_far_is_saved_when_it_occurs():
    knn = {0: 0.9, 2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.7, 12: 0.1}
    run = Run(knn=knn, **{"probe.every": 2, "checkpoint.keep_best": "probe/knn", "checkpoint.every": 6})
    run.go()
    assert run.series("probe/knn") == knn
    assert run.saved == [(2, 0.3), (4, 0.5), (6, None), (10, 0.7), (12, None)]


def test_a_resumed_run_must_beat_the_best_before_it():
    knn = {8: 0.5, 12: 0.7}
    run = Run(knn=knn, **{"probe.every": 4, "checkpoint.keep_best": "probe/linear", "checkpoint.every": 100})
    run.go(begin=6, best=0.6)
    assert run.saved == [(12, 0.7)]


def test_nothing_is_the_best_unless_asked_for():
    run = Run(knn=dict.fromkeys(range(13), 0.5), **{"probe.every": 2, "checkpoint.every": 100})
    run.go()
    assert run.saved == [(12, None)]


def test_means_are_over_the_updates_that_were_made():
    run = Run(losses={0: 2.0, 1: float("nan"), 2: 4.0, 3: float("nan")}, **{"run.log_every": 3, "steps": 4})
    run.go()
    assert run.series("loss/total")[3] == 3.0
    assert run.series("optim/skipped") == {3: pytest.approx(1 / 3), 4: 1.0}
    assert run.series("loss/total")[4] != run.series("loss/total")[4], "no update was made: NaN says so"


def test_evaluating_and_probing_are_not_time_of_a_step(monkeypatch):
    """On a clock of its own, where waiting for a batch takes one second and an evaluation or probe a hundred."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def passing(seconds, value):
        clock.now += seconds
        return value

    run = Run(knn={}, **{"heldout.every": 2, "probe.every": 3, "run.log_every": 4, "steps": 8})
    run.go(
        batches=(passing(1.0, number) for number in range(8)),
        evaluate=lambda _: passing(100.0, (HEALTHY, None)),
        probe=lambda _: passing(100.0, {f"{name}{kind}": 0.5 for name in PROBED for kind in ("", "_balanced")}),
    )
    assert clock.now > 700
    assert run.series("time/step_s") == {4: 1.0, 8: 1.0}
    assert run.series("time/data_wait_share") == {4: 1.0, 8: 1.0}


def test_mfu_is_logged_where_it_is_known():
    run = Run()
    run.go(mfu=lambda seconds: 0.25 if seconds > 0 else None)
    assert set(run.series("speed/mfu").values()) == {0.25}
    unknown = Run()
    unknown.go(mfu=lambda _: None)
    assert unknown.series("speed/mfu") == {}


@pytest.mark.parametrize(
    ("error", "baseline", "told"),
    [
        (0.9, 0.8, "12.5 % worse than a constant"),
        (0.7, 0.8, "12.5 % better than a constant"),
        (0.8, 0.8, "0.0 % better than a constant"),
        (0.1, 0.0, "n/a against a constant"),
        (0.0, 0.0, "n/a against a constant"),
        (0.1, float("nan"), "n/a against a constant"),
    ],
)
def test_an_error_is_told_as_better_or_worse_and_never_divided_by_nothing(error, baseline, told):
    assert loop.compared(error, baseline, "a constant") == told


def test_targets_that_a_constant_predicts_without_error_leave_the_alarm_to_act():
    run = Run(rankme={4: 1.0}, **{"alarms.action": "stop"})
    flat = HEALTHY | {"heldout/constant": 0.0, "heldout/shuffled": 0.0, "gauge/rankme": 1.0}
    _, halt = run.go(evaluate=lambda state: (flat, None))
    assert halt.kind == "alarm"
    assert ("heldout", 0, flat) in run.records
