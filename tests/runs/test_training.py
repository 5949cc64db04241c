"""Rollback and its limits, with real checkpoints and metrics and a state of one number that the data add up to."""

from __future__ import annotations

import io
import resource

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from surgmotion_jax.checkpoints.best import Best
from surgmotion_jax.parallel.processes import Group, find_place
from surgmotion_jax.pretrain.monitor.heldout import HeldoutBatch, Pictured
from surgmotion_jax.pretrain.monitor.rollback import read_rollbacks
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.programs import Programs
from surgmotion_jax.runs.resumption import check_resumable
from surgmotion_jax.runs.session import make_session
from surgmotion_jax.runs.training import Ready, train_ready
from tests.pretrain.fixtures import small_config

HEALTHY = {"heldout/loss": 0.9, "heldout/constant": 1.0, "heldout/shuffled": 1.0}


BALLAST = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)  # so that a checkpoint has some size


def state_of(step, total):
    return TrainState(jnp.int32(step), {"total": jnp.float32(total)}, {}, jnp.asarray(BALLAST))


def no_picture(grid):
    """One empty clip."""
    shapes = (1, 2, 1, 1, 3), (1, grid.columns), (1, grid.height, grid.width), (1, grid.columns)
    return Pictured(*map(np.zeros, shapes), np.zeros((1, 1), int), np.zeros((1, grid.tokens, 2)), np.zeros((1, 1)))


class Run:
    """A workdir, and a training whose step adds the number of the batch; `bad` batches make the loss spike."""

    def __init__(self, workdir, bad=(), collapsed=(), knn=None, **changes):
        base = {"steps": 10, "run.log_every": 1, "heldout.every": 2, "checkpoint.every": 2, "checkpoint.keep": 3}
        alarms = {"alarms.after": 0, "alarms.spike_window": 1, "alarms.action": "rollback", "alarms.rollbacks": 2}
        self.config = small_config(**(base | alarms | {"run.tensorboard": "off"} | changes))
        self.workdir, self.bad, self.collapsed, self.knn = workdir, set(bad), dict(collapsed), knn
        self.seen, self.told = [], io.StringIO()
        group = Group(find_place(self.config.distributed, []))
        self.session = make_session(self.config, epath.Path(workdir), "test", group, self.told)

    def evaluate(self, state, batch):
        """A collapse at a step is found as often as `collapsed` says."""
        step = int(state.step)
        found = self.collapsed.get(step, 0)
        self.collapsed[step] = found - 1
        gram_CxC = np.diag([1.0, *([0.0] * 49 if found > 0 else [1.0] * 49)])  # of effective rank 1 or 50
        return HeldoutBatch(HEALTHY, gram_CxC, no_picture(self.config.grid))

    def step(self, state, batch):
        number = int(batch.index_B)
        self.seen.append(number)
        self.before_step(number)
        loss = 100.0 if number in self.bad else 1.0
        total = state.params["total"] + number
        metrics = {"loss/total": loss, "loss/l1": 1.0, "optim/lr": 1.0, "optim/skipped": 0.0}
        return state._replace(step=state.step + 1, params={"total": total}), metrics

    def before_step(self, number):
        """What else happens at a step."""

    def training(self, first_step, passed_over, event):
        for number in range(first_step + passed_over, 1000):
            yield RawBatch(None, None, np.uint32(number))

    def heldout(self):
        yield RawBatch(None, None, None), ("clip",)

    def probe(self, state):
        names = ("knn", "linear", "chance")
        return {f"probe/{n}{kind}": self.knn[int(state.step)] for n in names for kind in ("", "_balanced")}

    def go(self, begin=0, total=0.0):
        """Returns the ending."""
        masks = mask_programs(self.config.mask, self.config.grid)
        programs = Programs(masks, {m.name: self.step for m in masks}, self.evaluate, self.probe if self.knn else None)
        return train_ready(Ready(self.session, programs, self, state_of(0, 0)), state_of(begin, total))

    def events(self):
        return [(r["step"], r["text"]) for r in read_metrics(self.workdir) if r["kind"] == "event"]

    def logged(self):
        return [r["step"] for r in read_metrics(self.workdir) if r["kind"] == "train"]


def test_a_spike_is_left_behind_with_its_data(tmp_path):
    """Batch 4 makes the loss spike at step 5: back to step 4, on with batch 5, which no step has met."""
    run = Run(tmp_path, bad={4})
    ending = run.go()
    assert ending.kind == "finished"
    assert run.seen == list(range(11)), "no batch is met twice"
    assert [(one.alarm_step, one.step) for one in read_rollbacks(tmp_path)] == [(5, 4)]
    assert run.logged() == list(range(1, 11)), "each step is logged once"
    restored = run.session.store.restore(state_of(0, 0))
    assert float(restored.state.params["total"]) == sum(range(11)) - 4, "the bad update is undone, all others are in"
    (back,) = [(step, text) for step, text in run.events() if text.startswith("rollback ")]
    assert back[0] == 4
    assert "from step 5 to the checkpoint of step 4, and on with other data, because the loss (loss/total)" in back[1]


def test_a_collapse_goes_back_before_the_last_sound_evaluation(tmp_path):
    """Found at step 8, it may have begun at 5: the checkpoint of step 6 is not trusted, and goes."""
    run = Run(tmp_path, collapsed={8: 1}, **{"heldout.every": 4})
    ending = run.go()
    assert ending.kind == "finished"
    assert [(one.alarm_step, one.step) for one in read_rollbacks(tmp_path)] == [(8, 4)]
    assert run.seen == [*range(8), *range(8, 14)]


def test_the_budget_of_rollbacks_ends_the_run(tmp_path):
    run = Run(tmp_path, collapsed={4: 9})
    ending = run.go()
    assert (ending.kind, ending.step) == ("alarm", 4)
    assert "gone back 2 times already (alarms.rollbacks = 2)" in ending.reason
    assert run.session.store.steps() == [2]
    assert run.events()[-1] == (4, f"stopped: {ending.reason}")
    again = Run(tmp_path, collapsed={4: 1}).go(2, 1.0)
    assert again.kind == "alarm", "the budget is that of the run, not of a start"


def test_without_a_checkpoint_from_before_there_is_no_way_back(tmp_path):
    run = Run(tmp_path, bad={1}, **{"checkpoint.every": 4})
    ending = run.go()
    assert "no checkpoint at or before step 1 to go back to; checkpoints on disk: none" in ending.reason
    assert run.session.store.steps() == []


def test_stop_keeps_the_last_good_checkpoint_the_newest(tmp_path):
    run = Run(tmp_path, bad={5}, **{"alarms.action": "stop"})
    ending = run.go()
    assert (
        "(alarms.action = stop); the last step without such an alarm is 5; checkpoints on disk: 2, 4" in ending.reason
    )
    assert run.session.store.steps() == [2, 4]
    assert not (tmp_path / "rollbacks.json").exists()


def test_a_resumed_run_stays_behind_the_data_it_passed_over(tmp_path):
    run = Run(tmp_path, bad={4}, **{"run.stop_at_step": 6})
    run.go()
    rest = Run(tmp_path)
    rest.go(6, 0.0)
    assert run.seen[-1] + 1 == rest.seen[0] == 7


def test_a_new_run_in_a_workdir_without_checkpoints_starts_at_the_first_batch(tmp_path):
    run = Run(tmp_path, bad={4})
    run.go()
    afresh = Run(tmp_path, **{"run.stop_at_step": 2})
    for step in (tmp_path / "checkpoints").iterdir():
        step.rename(tmp_path / f"away-{step.name}")
    afresh.go()
    assert afresh.seen == [0, 1]
    assert read_rollbacks(tmp_path) == ()


def test_a_workdir_whose_checkpoints_are_gone_is_noticed(tmp_path):
    Run(tmp_path).go()
    whole = Run(tmp_path)
    check_resumable(whole.session)
    assert "WARNING" not in whole.told.getvalue()
    (tmp_path / "checkpoints").rename(tmp_path / "away")
    afresh = Run(tmp_path)
    check_resumable(afresh.session)
    assert "records a run up to step 10, but" in afresh.told.getvalue()
    assert "holds no checkpoint; training starts again from the first step" in afresh.told.getvalue()


def test_the_best_checkpoint_survives_and_one_from_after_the_trouble_does_not(tmp_path):
    knn = {0: 0.9, 2: 0.5, 4: 0.4, 6: 0.8, 8: 0.3, 10: 0.2}
    changes = {"probe.every": 2, "checkpoint.keep": 1, "checkpoint.keep_best": "probe/knn", "heldout.every": 10}
    run = Run(tmp_path / "a", knn=knn, **changes)
    run.go()
    assert run.session.store.steps() == [6, 10]
    assert run.session.store.best() == Best(6, "probe/knn", 0.8)
    changes |= {"checkpoint.keep": 4, "heldout.every": 4}
    lost = Run(tmp_path / "b", knn=knn, collapsed={8: 1}, **changes)
    left = {}

    def on_disk(when):
        lost.session.store.wait()
        left.setdefault(when, (lost.session.store.steps(), lost.session.store.best()))

    def evaluate(state, batch):
        on_disk(f"evaluated {int(state.step)}")
        return Run.evaluate(lost, state, batch)

    def before_step(number):
        if number == 8:
            on_disk("back")

    lost.evaluate, lost.before_step = evaluate, before_step
    assert lost.go().kind == "finished"
    assert left["evaluated 8"] == ([2, 4, 6], Best(6, "probe/knn", 0.8))
    assert left["back"] == ([2, 4], None), "step 6 may already have been collapsing"


@pytest.fixture
def limit_files():
    """Limits the size of files that can be written, which stands in for a full disk; without a size lifts that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_whose_last_state_cannot_be_saved_has_not_finished(tmp_path, limit_files, capfd):
    run = Run(tmp_path)

    def before_step(number):
        if number == 9:
            run.session.store.wait()
            limit_files(30_000)

    run.before_step = before_step
    ending = run.go()
    limit_files()
    assert (ending.kind, ending.step, ending.complete) == ("unsaved", 10, False)
    assert ending.reason.startswith("the state of step 10 was not saved (")
    assert "the newest checkpoint is that of step 8. A checkpoint takes about 0.2 MB, and " in ending.reason
    assert run.events()[-1] == (10, f"stopped: {ending.reason}")
    assert "finished" not in run.told.getvalue()
    printed = capfd.readouterr().err
    assert printed.count("was not saved") == 1
    assert "Traceback" not in printed
    assert "Traceback" in (tmp_path / "save_failures.log").read_text()
    again = Run(tmp_path)
    assert again.session.store.latest() == 8
    assert again.go(8, float(sum(range(8)))).kind == "finished"


def _without_room(run, limit_files, size, until):
    """From batch 3 to another no file of the run may be larger."""

    def before_step(number):
        if number == 3:
            run.session.store.wait()
            limit_files(size)
        if number == until:
            limit_files()

    run.before_step = before_step


def test_a_save_that_fails_on_the_way_costs_no_more_than_itself(tmp_path, limit_files):
    run = Run(tmp_path)
    _without_room(run, limit_files, 30_000, until=7)
    ending = run.go()
    assert ending.kind == "finished"
    assert run.session.store.latest() == 10
    (first, *_) = [(step, text) for step, text in run.events() if "not saved" in text]
    assert first[0] == 4
    assert first[1].startswith("checkpoint not saved, training goes on: ")


def test_clips_of_the_report_for_which_there_is_no_room_cost_no_run(tmp_path, limit_files):
    run = Run(tmp_path)
    _without_room(run, limit_files, 1_000, until=5)
    assert run.go().kind == "finished"
    assert "step 4: the clips of the report were not written (File too large)" in run.told.getvalue()
    assert (tmp_path / "snapshot.npz").exists(), "the evaluations after it write them"


def test_an_ending_has_the_latest_metrics(tmp_path):
    ending = Run(tmp_path).go()
    assert ending.metrics["loss/total"] == 1.0
    assert ending.metrics["heldout/loss"] == 0.9
    assert ending.workdir == epath.Path(tmp_path)
