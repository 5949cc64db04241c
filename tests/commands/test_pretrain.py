"""The pretraining command in this process: what a run leaves, resuming, alarms, bad input."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from surgmotion_jax.__main__ import main
from surgmotion_jax.checkpoints.own_weights import open_own
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.commands import pretrain
from surgmotion_jax.records import read_metrics
from tests.commands.runs import losses, start, state


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
    assert json.loads((ten_steps / "changes.json").read_text())["steps"] == [60_000, 10]
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
    assert open_own(find_weights(ten_steps)).probe is None, "the config's section about probing is no probe"
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


@pytest.mark.slow
def test_stage_two_starts_from_stage_one(ten_steps, run, tmp_path):
    """Other clip length and crop: positions are computed, so the weights fit."""
    longer = ("--config.data.frames=8", "--config.augment.crop=48", "--config.data.canvas=(48,48)")
    assert run(tmp_path, f"--config.init.checkpoint={ten_steps}", "--config.run.stop_at_step=1", *longer) == 0
    first = losses(tmp_path, "heldout", "heldout/loss")
    assert first[0] != losses(ten_steps, "heldout", "heldout/loss")[0]
    with pytest.raises(ValueError, match=r"model.depth: 1 in the checkpoint, 2 requested"):
        run(tmp_path / "x", f"--config.init.checkpoint={ten_steps}", "--config.model.depth=2")


@pytest.mark.slow
def test_collapse_trips_the_gauges(run, tmp_path):
    """Targets that may follow the gradient and nothing that keeps features apart: all features become one."""
    code = run(
        tmp_path,
        "--config.steps=100",
        "--config.optim.lr=1e-2",
        "--config.optim.schedule=constant",
        "--config.objective.stop_gradient=False",
        "--config.loss.affinity.weight=0.0",
        "--config.loss.diversity.weight=0.0",
        "--config.optim.ema=0.0",
        "--config.optim.final_ema=0.0",
        "--config.alarms.after=100",
        "--config.run.log_every=50",
    )
    assert code == 0
    alarms = [r["text"] for r in read_metrics(tmp_path) if r["kind"] == "event" and r["text"].startswith("alarm")]
    for gauge in ("rankme", "prediction_std", "target_std", "context_target_cosine"):
        assert any(f"gauge/{gauge}" in text for text in alarms), alarms


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
def test_bad_input_is_refused_before_anything_is_compiled(prepare, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "w", *flags)
    assert not (tmp_path / "w" / "checkpoints").exists()


def test_errors_end_the_command_with_one_line_and_code_2(command, tmp_path, capsys):
    assert main(["pretrain", *command(tmp_path, "--config.model.variant=vit_larg")]) == 2
    assert capsys.readouterr().err.startswith("surgmotion: model.variant is 'vit_larg'")


def test_no_readable_video(run, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(3):
        (folder / f"broken{i}.mp4").write_text(f"not video {i}")
    with pytest.raises(ValueError, match=r"broken0.mp4") as error:
        run(tmp_path / "w", f"--data={folder}")
    assert all(f"broken{i}.mp4" in str(error.value) for i in range(3))


def test_a_workdir_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written"):
        run(tmp_path / "file" / "workdir")


def test_nan_steps_stop_the_run_after_the_budget(run, tmp_path, capsys):
    flags = ("--config.optim.lr=1e38", "--config.alarms.nonfinite_steps=4", "--config.steps=60")
    assert run(tmp_path, *flags) == pretrain.HALTED == 3
    assert "4 updates in a row" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists(), "the last good checkpoint must stay the newest"
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["lr"] == 1e38
