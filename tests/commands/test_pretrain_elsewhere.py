"""The pretraining command as programs of their own: other devices, a second start, signals, several processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from tests.commands.runs import environment, finish, losses, start, state


@pytest.mark.slow
def test_resume_on_another_mesh_and_device_count(run, command, tmp_path):
    """From 8 x 1 x 1 over eight devices to 1 x 2 x 1 over two."""
    whole = tmp_path / "whole"
    assert run(whole, "--config.run.stop_at_step=6") == 0
    assert run(tmp_path, "--config.run.stop_at_step=3") == 0
    elsewhere = ("--config.parallel.data=1", "--config.parallel.fsdp=2", "--config.run.stop_at_step=6")
    finish(start(command(tmp_path, *elsewhere), devices=2))
    got, want = losses(tmp_path), losses(whole)
    np.testing.assert_allclose([got[s] for s in want], list(want.values()), rtol=1e-5)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c"),
        pytest.param(signal.SIGTERM, 0, id="sigterm"),
    ],
)
@pytest.mark.slow
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


@pytest.mark.slow
def test_two_processes_equal_one(command, tmp_path, free_port):
    def launch(name, devices, *more):
        arguments = command(
            tmp_path / name.split("-")[0], "--config.run.stop_at_step=3", "--config.data.prefetch=1", *more
        )
        return subprocess.Popen(
            [sys.executable, "-m", "tests.runs.recorded", str(tmp_path / f"{name}.npy"), *arguments],
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
