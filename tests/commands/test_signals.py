"""Ctrl-C and SIGTERM at any moment of a command: its exit code, nothing left behind, and what repeating it leads to.

One piece of work meets an accident at each moment in turn, is repeated after each, and ends as undisturbed work does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.simulated import make
from tests.commands.runs import environment, state

pytestmark = pytest.mark.slow

SIGNALS = {"ctrl-c": signal.SIGINT, "sigterm": signal.SIGTERM}
PREEMPTED = 75
MOMENTS = ("starting", "decoding", "stepping", "saving", "ending")
NOISE = ("Traceback", "Error", "leaked", "Exception ignored", "Fatal", "core dumped")


def signalled(arguments: Sequence[str], moment: str, name: str, folder: Path) -> tuple[int, str]:
    """Runs a command until it ends by a signal; its exit code and all that it said. Nothing may be left behind."""
    (folder / "temporary").mkdir(parents=True)
    prefix = f"s{os.urandom(2).hex()}_"
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands.signalled", moment, str(int(SIGNALS[name])), *arguments],
            env=environment(1) | {"TMPDIR": str(folder / "temporary"), "SHM_PREFIX": prefix},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=300)
        finally:
            process.kill()
    text = (folder / "said").read_text()
    _wait_until(lambda: not members(process.pid), "processes stay behind")
    _wait_until(lambda: not [f for f in os.listdir("/dev/shm") if f.startswith(prefix)], "shared memory stays behind")
    assert not list((folder / "temporary").iterdir())
    assert not [word for word in NOISE if word in text], text
    return code, text


def completed(arguments: Sequence[str]) -> None:
    """Runs a command undisturbed, on one device as those that are disturbed."""
    command = [sys.executable, "-m", "surgmotion_jax", *arguments]
    done = subprocess.run(command, env=environment(1), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def members(group: int) -> list[int]:
    """The processes of a group, without those that ended and wait to be reaped."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status, _, its_group, *_ = (entry / "stat").read_text().rpartition(") ")[2].split()
        except (OSError, ValueError):
            continue
        if int(its_group) == group and status != "Z":
            found.append(int(entry.name))
    return found


def _wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def files(folder: Path, *without: str) -> dict[str, bytes]:
    """What a command wrote, hidden files too."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(without)}


def drafts(folder: Path) -> list[str]:
    """Locks, drafts and unfinished checkpoints below a folder."""
    marks = (".tmp", ".lock", "checkpoint-tmp", ".probe-")
    return [str(path) for path in folder.rglob("*") if any(mark in path.name for mark in marks)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture
def training(command):
    def arguments(workdir: Path, workers: int) -> list[str]:
        return command(
            workdir, "--config.steps=12", "--config.checkpoint.every=2", f"--config.data.workers={workers}",
            f"--config.run.stopped_code={PREEMPTED}", "--config.data.prefetch=1",
        )  # fmt: skip

    return arguments


def accidents(first: str, moments: Sequence[str] = MOMENTS) -> list[tuple[str, str]]:
    """Every moment with a signal, one in two with the other: beginning with each of both, all pairs are there."""
    turns = sorted(SIGNALS, key=lambda name: name != first)
    return [(moment, turns[place % 2]) for place, moment in enumerate(moments)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", SIGNALS)
def test_pretraining(training, undisturbed, tmp_path, first, workers):
    whole = undisturbed / "pretrain"
    if not whole.exists():
        completed(["pretrain", *training(whole, 0)])
    workdir = tmp_path / "w"
    for moment, name in accidents(first):
        code, said = signalled(["pretrain", *training(workdir, workers)], moment, name, tmp_path / moment)
        assert code == (130 if name == "ctrl-c" else PREEMPTED), f"{moment}: {said}"
        assert not drafts(workdir), moment
        if moment not in ("starting", "ending"):
            assert "repeat the command to resume" in said
    completed(["pretrain", *training(workdir, 0)])
    want, got = state(whole), state(workdir)
    for path, leaf in want.items():
        np.testing.assert_array_equal(got[path], leaf, err_msg=path)


def test_a_normal_end_with_workers_is_silent_and_leaves_nothing(training, tmp_path):
    code, said = signalled(["pretrain", *training(tmp_path / "w", 2)], "never", "ctrl-c", tmp_path / "run")
    assert code == 0
    assert "finished at step 12" in said
    assert not drafts(tmp_path / "w")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_reader_that_goes_away_ends_training_quietly(training, tmp_path, workers):
    """`surgmotion pretrain ... | head -1`."""
    command = [sys.executable, "-m", "surgmotion_jax", "pretrain", *training(tmp_path / "w", workers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(1), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("first", SIGNALS)
def test_an_evaluation(undisturbed, tmp_path, first):
    root, whole, workdir = undisturbed / "cholec80", undisturbed / "evaluate", tmp_path / "w"
    if not root.exists():
        make("cholec80", root, 6, 4.0, fps=3)
    flags = ("--config=evaluate/cholec80:small", "--checkpoint=random:vit_nano", "--head=linear", f"--root={root}")
    small = ("--config.data.size=32", "--config.data.frames=4", "--config.report.resamples=20")

    def arguments(workdir: Path) -> list[str]:
        return ["evaluate", *flags, *small, f"--workdir={workdir}", "--config.sweep.save_every=1"]

    if not whole.exists():
        completed(arguments(whole))
    for moment, name in accidents(first):
        code, said = signalled(arguments(workdir), moment, name, tmp_path / moment)
        assert code == (130 if name == "ctrl-c" else 143), f"{moment}: {said}"
        assert not drafts(workdir), moment
    completed(arguments(workdir))
    assert (workdir / "results.json").read_bytes() == (whole / "results.json").read_bytes()


@pytest.mark.parametrize("first", SIGNALS)
def test_extraction(videos, undisturbed, tmp_path, first):
    whole, out = undisturbed / "extract", tmp_path / "w"

    def arguments(out: Path) -> list[str]:
        return ["extract", str(videos), f"--out={out}", "--checkpoint=random:vit_nano", "--size=32", "--frames=2",
                "--fps=5", "--batch=2"]  # fmt: skip

    if not whole.exists():
        completed(arguments(whole))
    for moment, name in accidents(first):
        code, said = signalled(arguments(out), moment, name, tmp_path / moment)
        assert code == (130 if name == "ctrl-c" else 143), f"{moment}: {said}"
        assert not drafts(out), moment
    completed(arguments(out))
    assert files(out) == files(whole)


IN_THIS_PROCESS, IN_WORKERS = ("starting", "drawing", "publishing", "writing"), ("waiting", "listing")


@pytest.mark.parametrize("first", SIGNALS)
def test_simulation(undisturbed, tmp_path, first):
    whole, out = undisturbed / "simulate", tmp_path / "w"

    def arguments(out: Path, workers: int) -> list[str]:
        return ["simulate", "--layout=autolaparo", f"--out={out}", "--cases=3", "--minutes=0.05", "--size=64",
                f"--workers={workers}", "--no-preview"]  # fmt: skip

    if not whole.exists():
        completed(arguments(whole, 0))
    for workers, moments in ((0, IN_THIS_PROCESS), (2, IN_WORKERS)):
        for moment, name in accidents(first, moments):
            code, said = signalled(arguments(out, workers), moment, name, tmp_path / moment)
            assert code == (130 if name == "ctrl-c" else 143), f"{moment}: {said}"
    completed(arguments(out, 0))
    assert files(out) == files(whole)
