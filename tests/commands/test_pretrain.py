"""The pretraining command from outside: resume, interruption, bad input, several processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from surgmotion_jax.__main__ import main
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.commands import pretrain
from surgmotion_jax.records import read_metrics

REPOSITORY = Path(__file__).parents[2]


def losses(workdir, kind="train", name="loss/total"):
    return {r["step"]: r["metrics"][name] for r in read_metrics(workdir) if r["kind"] == kind}


def state(workdir):
    return leaves_by_path(load_subtree(workdir / "checkpoints", ["step", "params", "target", "moments"]).state)


def environment(devices):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}


def start(arguments, devices=1, **options):
    command = [sys.executable, "-W", "error", "-m", "surgmotion_jax", "pretrain", *arguments]
    return subprocess.Popen(
        command, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish(process, timeout=300):
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def ten_steps(whole, run):
    """A finished run of ten steps, made once."""
    if not (whole / "metrics.jsonl").exists():
        assert run(whole) == 0
    return whole


def test_a_run_leaves_everything_a_reader_needs(ten_steps, capsys):
    names = {p.name for p in ten_steps.iterdir()}
    assert {"config.json", "environment.json", "summary.json", "metrics.jsonl", "snapshot.npz", "checkpoints"} <= names
    assert sorted(losses(ten_steps)) == list(range(1, 11))
    assert sorted(losses(ten_steps, "heldout", "heldout/loss")) == [0, 10]
    record = next(r for r in read_metrics(ten_steps) if r["kind"] == "train")["metrics"]
    wanted = (
        "loss/motion loss/affinity loss/diversity loss/l1 optim/lr optim/weight_decay optim/grad_norm ema/momentum "
        "ema/distance gauge/prediction_std gauge/target_std gauge/context_target_cosine gauge/active_dims time/step_s "
        "time/data_wait_share speed/clips_per_s memory/gb"
    )
    assert set(wanted.split()) <= set(record)
    shown = np.load(ten_steps / "snapshot.npz")
    assert shown["video_BxTxHxWx3"].shape == (4, 4, 32, 32, 3)
    assert shown["target_Bxtxghxgw"].mean() == 0.5
    assert main(["report", str(ten_steps)]) == 0
    assert "held-out" in (ten_steps / "report.html").read_text().lower()


def test_stop_and_resume_is_bit_equal_to_not_stopping(ten_steps, run, tmp_path):
    assert run(tmp_path, "--config.run.stop_at_step=5") == 0
    assert sorted(losses(tmp_path)) == [1, 2, 3, 4, 5]
    assert run(tmp_path) == 0
    assert losses(tmp_path) == losses(ten_steps)
    whole, resumed = state(ten_steps), state(tmp_path)
    assert whole.keys() == resumed.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(resumed[path], leaf, err_msg=path)


def test_resume_on_another_mesh_and_device_count(ten_steps, run, command, tmp_path):
    """From 8 x 1 x 1 over eight devices to 1 x 2 x 1 over two."""
    assert run(tmp_path, "--config.run.stop_at_step=4") == 0
    finish(start(command(tmp_path, "--config.parallel.data=1", "--config.parallel.fsdp=2"), devices=2))
    got, want = losses(tmp_path), losses(ten_steps)
    np.testing.assert_allclose([got[s] for s in want], list(want.values()), rtol=1e-5)


def test_a_second_start_compiles_nothing(command, tmp_path):
    counter = textwrap.dedent("""
        import sys, jax
        found = {}
        def count(name, **_):
            found[name] = found.get(name, 0) + 1
        jax.monitoring.register_event_listener(count)
        from surgmotion_jax.commands import pretrain
        code = pretrain.main(sys.argv[1:])
        print("CACHE", *(found.get(f"/jax/compilation_cache/cache_{kind}", 0) for kind in ("misses", "hits")))
        sys.exit(code)
    """)
    seen = []
    for turn in range(2):
        arguments = command(
            tmp_path / str(turn), "--config.steps=2", f"--config.run.compilation_cache={tmp_path / 'c'}"
        )
        done = subprocess.run(
            [sys.executable, "-c", counter, *arguments],
            env=environment(1), capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        seen.append(tuple(map(int, re.search(r"CACHE (\d+) (\d+)", done.stdout).groups())))
    assert seen[0][0] > 3, "the first start must compile"
    assert seen[1][0] == 0, seen
    assert seen[1][1] >= seen[0][0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["ctrl-c", "sigterm"])
def test_interruption_saves_and_repeating_resumes(command, tmp_path, number, code):
    arguments = command(tmp_path, "--config.steps=100000")
    process = start(arguments)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and len(losses(tmp_path) if (tmp_path / "metrics.jsonl").exists() else {}) < 3:
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    stopped = max(losses(tmp_path))
    assert int(state(tmp_path)["step"]) >= stopped, "at most the step in flight may be lost"
    assert "repeat the command to resume" in output
    more = finish(start([*arguments, f"--config.run.stop_at_step={stopped + 3}"]))
    assert f"from step {int(stopped)}" in more or "resumed" in more


def test_two_processes_equal_one(command, tmp_path, free_port):
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            import numpy as np
            from surgmotion_jax.commands import pretrain

            record, rows = sys.argv[1], []
            to_device = pretrain.Session.to_device

            def spy(self, batch, size):
                rows.append(batch.index_B)
                return to_device(self, batch, size)

            pretrain.Session.to_device = spy
            code = pretrain.main(sys.argv[2:])
            np.save(record, np.stack(rows[-3:]))
            sys.exit(code)
        """)
    )

    def launch(name, devices, *more):
        arguments = command(
            tmp_path / name.split("-")[0], "--config.run.stop_at_step=3", "--config.data.prefetch=1", *more
        )
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / f"{name}.npy"), *arguments],
            env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def group(process):
        return (
            f"--config.distributed.coordinator=127.0.0.1:{free_port}",
            "--config.distributed.processes=2",
            f"--config.distributed.process={process}",
        )

    finish(launch("one", 2))
    pair = [launch(f"two-{i}", 1, *group(i)) for i in range(2)]
    for process in pair:
        finish(process)
    got, want = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert sorted(got) == [1, 2, 3]
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=1e-5)
    rows = [np.load(tmp_path / f"two-{i}.npy") for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), np.load(tmp_path / "one.npy"))


def test_workdir_of_another_config_is_refused_and_left_alone(ten_steps, run, capsys):
    before = {p: p.stat().st_mtime_ns for p in ten_steps.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(ValueError, match=r"holds a run of another config") as error:
        run(ten_steps, "--config.optim.lr=0.5", "--config.mask.ratios=(0.75,)")
    assert "mask.ratios: (0.5,) -> (0.75,)" in str(error.value)
    assert "optim.lr: 0.001 -> 0.5" in str(error.value)
    for more in ((), ("--config.run.accept_changes=True",)):
        with pytest.raises(ValueError, match=r"another architecture.*\n  model.predictor.depth: 1 -> 2"):
            run(ten_steps, "--config.model.predictor.depth=2", *more)
    after = {p: p.stat().st_mtime_ns for p in before}
    assert after == before


def test_a_workdir_in_use_is_refused(command, run, tmp_path):
    process = start(command(tmp_path, "--config.steps=100000"))
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "summary.json").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        with pytest.raises(ValueError, match=f"{process.pid}"):
            run(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_stage_two_starts_from_stage_one(ten_steps, run, tmp_path):
    """Other clip length and crop: positions are computed, so the weights fit."""
    longer = ("--config.data.frames=8", "--config.augment.crop=48", "--config.data.canvas=(48,48)")
    assert run(tmp_path, f"--config.init.checkpoint={ten_steps}", "--config.run.stop_at_step=1", *longer) == 0
    first = losses(tmp_path, "heldout", "heldout/loss")
    assert first[0] != losses(ten_steps, "heldout", "heldout/loss")[0]
    with pytest.raises(ValueError, match=r"model.depth: 1 in the checkpoint, 2 requested"):
        run(tmp_path / "x", f"--config.init.checkpoint={ten_steps}", "--config.model.depth=2")


def test_collapse_trips_the_gauges(run, tmp_path):
    """Targets that may follow the gradient and nothing that keeps features apart: all predictions become one."""
    code = run(
        tmp_path,
        "--config.steps=150",
        "--config.optim.lr=3e-3",
        "--config.loss.stop_gradient=False",
        "--config.loss.affinity.weight=0.0",
        "--config.loss.diversity.weight=0.0",
        "--config.optim.ema=0.0",
        "--config.optim.final_ema=0.0",
        "--config.alarms.after=100",
        "--config.run.log_every=50",
    )
    assert code == 0
    alarms = [r["text"] for r in read_metrics(tmp_path) if r["kind"] == "event" and r["text"].startswith("alarm")]
    assert any("gauge/rankme" in text for text in alarms), alarms
    assert any("gauge/prediction_std" in text for text in alarms), alarms


def test_healthy_start_trips_nothing(ten_steps):
    assert not [r for r in read_metrics(ten_steps) if r["kind"] == "event" and "alarm" in r["text"]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config.model.variant=vit_larg",), r"model.variant is 'vit_larg'.*Did you mean 'vit_large'"),
        (("--config.optim.lrr=1",), r"lrr"),
        (("--config.parallel.data=3",), r"parallel.data=3.* makes 3 devices, but there are 8"),
        (("--config.augment.crop=33", "--config.data.canvas=(48,48)"), r"crop 33 .* model.patch 16; use 32 or 48"),
        (("--config.data.frames=5",), r"data.frames 5 is not divisible by model.tubelet 2"),
        (("--config.mask.ratios=(0.99,)",), r"mask.ratios: a share of 0.99 of 4 tubes.* hides 4; .*at most 3"),
        (("--config.loss.motion.scope=topk", "--config.loss.motion.top_k=3"), r"top_k is 3.* as few as 2 tubes"),
        (("--config.model.attention=splash",), r"needs a TPU"),
        (("--config.augment.crop=48",), r"larger than data.canvas"),
        (("--config.steps=ten",), r"steps"),
        (("--data=/nowhere/at/all",), r"/nowhere/at/all"),
        (("--wordkir=x",), r"unknown argument '--wordkir=x'"),
        (("--config.heldout.batch=4", "--config.heldout.clips=2"), r"heldout.clips is 2, fewer than one batch"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_compiled(run, tmp_path, monkeypatch, flags, message):
    monkeypatch.setattr(pretrain.Session, "compile", lambda *_: pytest.fail("compiled"))
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "w", *flags)
    assert not (tmp_path / "w" / "checkpoints").exists()


def test_errors_end_the_command_with_one_line_and_code_2(command, tmp_path, capsys):
    assert main(["pretrain", *command(tmp_path, "--config.model.variant=vit_larg")]) == 2
    assert capsys.readouterr().err.startswith("surgmotion: model.variant is 'vit_larg'")


def test_no_readable_video(run, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(3):
        (folder / f"broken{i}.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"broken0.mp4") as error:
        run(tmp_path / "w", f"--data={folder}")
    assert all(f"broken{i}.mp4" in str(error.value) for i in range(3))


def test_a_workdir_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        run(tmp_path / "file" / "workdir")


def test_nan_steps_stop_the_run_after_the_budget(run, tmp_path):
    with pytest.raises(RuntimeError, match="4 updates in a row"):
        run(tmp_path, "--config.optim.lr=1e38", "--config.alarms.nonfinite_steps=4", "--config.steps=60")
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["lr"] == 1e38
