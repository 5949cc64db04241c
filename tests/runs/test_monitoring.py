"""Probe, alarms, rollback and best checkpoint through whole runs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from surgmotion_jax.__main__ import main
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.commands.pretrain import read_command_line
from surgmotion_jax.evaluate.encoder.frozen import load_encoder
from surgmotion_jax.pretrain.monitor.rollback import read_rollbacks
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.probe import Probe, read_probe_set, window_reader
from tests.benchmarks.simulated import make
from tests.commands.group import Run
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import small_config
from tests.runs.recorded import train_recorded

# The threshold is the highest that can be met, so every evaluation from step 4 on finds a collapse.
COLLAPSED = (
    "--config.alarms.after=4",
    "--config.alarms.rankme=64.0",
    "--config.alarms.rollbacks=2",
    "--config.heldout.every=2",
    "--config.checkpoint.every=2",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make("cholec80", tmp_path_factory.mktemp("set") / "set", 6, 8.0, fps=3)


def probe_flags(root):
    return (
        "--config.probe.benchmark=cholec80",
        f"--config.probe.root={root}",
        "--config.probe.every=2",
        "--config.probe.windows=12",
        "--config.probe.fps=3.0",
        "--config.checkpoint.keep_best=probe/knn",
    )


def events(workdir):
    return [(r["step"], r["text"]) for r in read_metrics(workdir) if r["kind"] == "event"]


def heldout(workdir, name):
    return {r["step"]: r["metrics"][name] for r in read_metrics(workdir) if name in r["metrics"]}


@pytest.mark.slow
def test_a_collapsing_run_goes_back_twice_then_stops_and_can_be_resumed(root, command, tmp_path, capsys):
    flags = (*COLLAPSED, *probe_flags(root))
    ending, rows = train_recorded(*read_command_line(command(tmp_path, *flags, "--config.alarms.action=rollback")))
    assert (ending.kind, ending.step) == ("alarm", 4)
    assert ending.reason.startswith("effective rank of the targets")
    assert "gone back 2 times already (alarms.rollbacks = 2)" in ending.reason
    told = capsys.readouterr()
    assert "cholec80: 12 training windows of" in told.out
    assert "an alarm before step 4 may find no checkpoint" in told.out
    assert "probe: kNN" in told.out

    batches = [int(index_B[0]) // 8 for index_B in rows]
    taken = [number for turn, number in enumerate(batches) if number not in batches[:turn]]
    assert taken[:8] == [0, 1, 2, 3, 4, 5, 6, 7], "every stretch continues where the one before stopped"
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [2]
    assert [(one.alarm_step, one.step) for one in read_rollbacks(tmp_path)] == [(4, 2), (4, 2)]
    back = [(step, text) for step, text in events(tmp_path) if text.startswith("rollback ")]
    assert [step for step, _ in back] == [2, 2]
    assert back[1][1].startswith("rollback 2 of at most 2: from step 4 to the checkpoint of step 2")
    assert events(tmp_path)[-1][1].startswith("stopped: effective rank")
    assert sorted(heldout(tmp_path, "probe/knn")) == [0, 2]
    assert all(0 <= value <= 1 for value in heldout(tmp_path, "probe/linear").values())

    best = load_encoder(tmp_path / "best")
    assert best.origin.step == 2

    more = ("--config.alarms.action=warn", "--config.run.stop_at_step=6")
    ending, rows = train_recorded(*read_command_line(command(tmp_path, *flags, *more)))
    assert ending.kind == "finished"
    assert rows[0][0] // 8 == 6, "resumed behind all data that rollbacks passed over"
    assert sorted(heldout(tmp_path, "heldout/loss")) == [0, 2, 4, 6]
    assert sorted(heldout(tmp_path, "probe/knn")) == [0, 2, 4, 6]
    values = heldout(tmp_path, "probe/knn")
    winner = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    assert winner["value"] == max(value for step, value in values.items() if step)
    assert winner["step"] == min(step for step, value in values.items() if step and value == winner["value"])
    assert main(["report", str(tmp_path)]) == 0
    assert "Frozen probe" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_two_processes_probe_alike_and_go_back_together(root, command, tmp_path):
    flags = (*COLLAPSED, *probe_flags(root), "--config.alarms.action=rollback", "--config.data.prefetch=1")
    with Run(tmp_path / "pair", [command(tmp_path / "w", *flags)] * 2) as pair:
        assert [process.wait(1200) for process in pair.processes] == [3, 3], pair.logs()
    assert all("gone back 2 times already" in pair.log(process) for process in range(2))
    assert [(one.alarm_step, one.step) for one in read_rollbacks(tmp_path / "w")] == [(4, 2), (4, 2)]
    assert CheckpointStore(tmp_path / "w" / "checkpoints").steps() == [2]
    with Run(tmp_path / "single", [command(tmp_path / "one", *flags)]) as single:
        assert single.processes[0].wait(1200) == 3, single.logs()
    for name in ("probe/knn", "probe/linear", "heldout/loss"):
        got, want = (heldout(workdir, name) for workdir in (tmp_path / "w", tmp_path / "one"))
        assert list(got) == list(want)
        assert len(got) >= 2
        np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-4)


@pytest.mark.slow
def test_a_run_that_stops_at_an_alarm_keeps_its_last_good_checkpoint(run, tmp_path):
    assert run(tmp_path, *COLLAPSED, "--config.alarms.action=stop") == 3
    assert CheckpointStore(tmp_path / "checkpoints").steps() == [2]
    assert events(tmp_path)[-1][1].startswith("stopped: effective rank")
    assert not (tmp_path / "rollbacks.json").exists()


@pytest.mark.slow
def test_a_rollback_without_a_checkpoint_stops_and_says_so(run, tmp_path, capsys):
    late = (*COLLAPSED[1:3], "--config.alarms.after=2", "--config.heldout.every=2", "--config.checkpoint.every=4")
    assert run(tmp_path, *late, "--config.alarms.action=rollback") == 3
    assert "no checkpoint at or before step 0 to go back to; checkpoints on disk: none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--config.probe.benchmark=cholec80",), r"probe.root is empty"),
        (
            ("--config.probe.benchmark=cholec8", "--config.probe.root=/nowhere"),
            r"unknown benchmark 'cholec8'.*cholec80",
        ),
        (("--config.probe.benchmark=cholec80", "--config.probe.root=/nowhere"), r"probe.root '/nowhere' is no folder"),
        (("--config.checkpoint.keep_best=probe/knn",), r"there is no probe"),
        (("--config.alarms.action=stop",), r"no alarm can trip. .*alarms.after is 200, past the last step 10"),
    ],
)
def test_bad_input_is_refused_before_anything_is_compiled(prepare, tmp_path, flags, words):
    with pytest.raises(ValueError, match=words):
        prepare(tmp_path, *flags)


def test_a_set_with_one_class_is_refused_before_anything_is_compiled(root, prepare, tmp_path):
    copy = tmp_path / "set"
    (copy / "phase_annotations").mkdir(parents=True)
    (copy / "videos").symlink_to(root / "videos")
    for file in (root / "phase_annotations").iterdir():
        header, *lines = file.read_text().splitlines()
        same = [f"{line.split(chr(9))[0]}\tPreparation" for line in lines]
        (copy / "phase_annotations" / file.name).write_text("\n".join([header, *same]) + "\n")
    with pytest.raises(ValueError, match=r"all show one class \(Preparation\).*nothing to tell apart"):
        prepare(tmp_path / "w", "--config.probe.benchmark=cholec80", f"--config.probe.root={copy}")


def test_a_probe_batch_that_does_not_fit_the_mesh_is_refused(root, prepare, tmp_path):
    with pytest.raises(ValueError, match="probe.batch 6 is not divisible by 8"):
        prepare(tmp_path, *probe_flags(root), "--config.probe.batch=6")


@pytest.mark.parametrize("cache_gb", [1.0, 0.0], ids=["held", "read again"])
def test_every_window_reaches_the_encoder_beside_its_label(root, cache_gb):
    """With an encoder that only looks at the last frame: its features are those frames, in the order of the labels."""
    flags = {"probe.benchmark": "cholec80", "probe.root": str(root), "probe.fps": 3.0, "probe.windows": 11}
    config = small_config(**flags, **{"probe.batch": 8, "probe.cache_gb": cache_gb, "data.frames": 4})
    layout = layout_of(4, 1, 1)
    found = read_probe_set(config, layout)
    shapes = []

    def last_frames(target, video):
        shapes.append(video.shape)
        return np.asarray(video)[:, -1].reshape(len(video), -1).astype(np.float32)

    probe = Probe(config, layout, found, last_frames)
    for _ in range(2):
        for split in ("train", "val"):
            moments = getattr(found, split)
            got = probe._features(None, split)
            reader = window_reader(config)
            want = [reader.window(moments.cases[case], row)[-1].reshape(-1) for case, row in moments.rows_Nx2]
            np.testing.assert_array_equal(got, want)
            labels = [moments.cases[case].labels["phase"][row] for case, row in moments.rows_Nx2]
            assert moments.label_N.tolist() == labels
    assert set(shapes) == {(8, 4, 48, 48, 3)}
    assert bool(probe._held) == bool(cache_gb)
    metrics = probe(SimpleNamespace(target=None))
    assert metrics == probe(SimpleNamespace(target=None)), "the same weights, the same numbers"
    assert {"probe/knn", "probe/linear", "probe/chance"} <= set(metrics)
