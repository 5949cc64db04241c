"""The command itself, killed at random moments with its processes, and repeated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surgmotion_jax.data.records.manifest import MANIFEST
from surgmotion_jax.data.records.store import problems
from tests.corpus.scenes import scene, write_file
from tests.corpus.stores import files

ROOT = Path(__file__).parents[2]


def start(folder: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "surgmotion_jax", "data", "ingest", str(folder / "in"), f"--out={folder / out}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    options = ["--size=64", "--shard-mb=0.1", "--workers=2"]
    return subprocess.Popen([*command, *options], env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_again_and_again_it_writes_what_an_undisturbed_run_writes(tmp_path):
    for seed in range(8):
        write_file(tmp_path / f"in/{seed}.mp4", scene(seed, 40, 8.0, (64, 80)), 8.0)
    started = time.monotonic()
    assert start(tmp_path, "whole").wait() == 0
    took = time.monotonic() - started
    chance, killed = random.Random(0), 0
    while killed < 5 and not (tmp_path / "store" / MANIFEST).exists():
        process = start(tmp_path, "store")
        time.sleep(chance.uniform(0.4, 0.95) * took)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed
    if not (tmp_path / "store" / MANIFEST).exists():
        assert start(tmp_path, "store").wait() == 0
    assert not list(problems(str(tmp_path / "store")))
    assert files(tmp_path / "store") == files(tmp_path / "whole")
