"""Trains for hours while everything happens to it, then trains undisturbed, and compares bit by bit.

    python -m tests.runs.soak FOLDER --hours=2

Kills by every signal, of the run or of a worker, disks without room, damaged checkpoints and damaged videos. Writes
`FOLDER/soak.json`: how often what happened, and whether both runs ended with the same state. Takes about half as long
again for the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from surgmotion_jax.records import read_metrics
from tests.commands.conftest import SMALL, write_video
from tests.commands.runs import environment, losses, state

KINDS = ("killed", "terminated", "interrupted", "worker_killed", "disk_full", "bit_flipped", "file_cut")
SAVE_EVERY = 5
ENOUGH = 1_000_000  # steps of a run that is stopped from outside
LITTLE = 4096  # bytes that a file may have where a disk is full
UNSAVED = 4
CODES = {0, 130, -signal.SIGKILL}
"""What a run may end with here: stopped by SIGTERM, interrupted, killed."""


@dataclass
class Soak:
    """A run and all that happens to it, drawn from a seed."""

    folder: Path
    rng: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    damaged_at: int = -1  # newest step when a checkpoint was last damaged

    @property
    def workdir(self) -> Path:
        return self.folder / "disturbed"

    @property
    def said(self) -> Path:
        """What all runs say."""
        return self.folder / "said.txt"

    def go(self, seconds: float, least: int) -> None:
        """Starts the run again and again until the time is over, but so many times at least, each for another end."""
        until = time.monotonic() + seconds
        rounds = self._rounds()
        while time.monotonic() < until or self.happened.total() < least:
            what = next(rounds)
            getattr(self, what)()
            self.happened[what] += 1

    def _rounds(self) -> Iterator[str]:
        """Every kind once, then every kind again in another order."""
        kinds = list(KINDS)
        while True:
            self.rng.shuffle(kinds)
            yield from kinds

    def killed(self) -> None:
        self._run_until(lambda run: run.send_signal(signal.SIGKILL))

    def terminated(self) -> None:
        self._run_until(lambda run: run.send_signal(signal.SIGTERM))

    def interrupted(self) -> None:
        """As a terminal does it: every process of the run gets the signal."""
        self._run_until(lambda run: os.killpg(run.pid, signal.SIGINT), workers=2)

    def worker_killed(self) -> None:
        """The run goes on with another worker, and is killed later."""

        def act(run: subprocess.Popen[bytes]) -> None:
            for child in children(run.pid)[-1:]:
                os.kill(child, signal.SIGKILL)
            time.sleep(8)
            run.send_signal(signal.SIGKILL)

        self._run_until(act, workers=2)

    def disk_full(self) -> None:
        """No file may grow, so that no save succeeds, and the run is told to stop: it must say that it is not saved."""

        def act(run: subprocess.Popen[bytes]) -> None:
            resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (LITTLE, LITTLE))
            run.send_signal(signal.SIGTERM)

        self._run_until(act, codes={UNSAVED})

    def bit_flipped(self) -> None:
        self._damage(lambda file, at: _rewrite(file, lambda data: data.__setitem__(at, data[at] ^ 8)))

    def file_cut(self) -> None:
        self._damage(os.truncate)

    def steps(self) -> list[int]:
        """Steps on disk, ascending."""
        folder = self.workdir / "checkpoints"
        return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())

    def finish(self) -> int:
        """Lets the run end at a step of its own; the step."""
        last = max(self.steps(), default=0) + SAVE_EVERY
        self._to(self.workdir, last)
        return last

    def equal(self, last: int) -> bool:
        """Trains undisturbed to the same step; whether states and losses are the same bit for bit."""
        whole = self.folder / "undisturbed"
        self._to(whole, last)
        want, got = state(whole), state(self.workdir)
        same = want.keys() == got.keys() and all(np.array_equal(want[name], got[name]) for name in want)
        return same and losses(whole) == losses(self.workdir)

    def _damage(self, act: Callable[[Path, int], object]) -> None:
        """Damages the newest checkpoint, unless the run has saved nothing since the last was."""
        steps = self.steps()
        if len(steps) > 1 and self.damaged_at < steps[-2]:
            files = [path for path in (self.workdir / "checkpoints" / str(steps[-1])).rglob("*") if path.is_file()]
            file = max(files, key=lambda path: path.stat().st_size)
            act(file, self.rng.randrange(file.stat().st_size))
            self.damaged_at = steps[-1]
        self.killed()

    def _run_until(
        self, act: Callable[[subprocess.Popen[bytes]], object], workers: int = 0, codes: set[int] = CODES
    ) -> None:
        """Starts the run, lets it go some steps, acts, and waits for its end."""
        since = time.time()
        run = start(self._arguments(self.workdir, ENOUGH, workers), self.said)
        try:
            _wait_for(lambda: self._steps_since(since) > SAVE_EVERY, run)
            time.sleep(self.rng.uniform(0.0, 4.0))
            act(run)
            code = run.wait(timeout=300)
        finally:
            kill_group(run)
        assert code in codes, f"the run ended with {code}; see {self.said}"

    def _steps_since(self, since: float) -> int:
        return sum(one["kind"] == "train" and one["time"] > since for one in read_metrics(self.workdir))

    def _to(self, workdir: Path, last: int) -> None:
        run = start(self._arguments(workdir, last, 0), self.said)
        assert run.wait() == 0, f"see {self.said}"

    def _arguments(self, workdir: Path, last: int, workers: int) -> list[str]:
        return [
            *(flag for flag in SMALL if not flag.startswith(("--config.steps", "--config.checkpoint"))),
            f"--data={self.folder / 'videos'}", f"--workdir={workdir}", f"--config.steps={ENOUGH}",
            f"--config.run.stop_at_step={last}", f"--config.checkpoint.every={SAVE_EVERY}",
            f"--config.data.workers={workers}", "--config.data.memory_gb=0", "--config.data.bad_budget=0.5",
            f"--config.run.compilation_cache={self.folder / 'cache'}",
        ]  # fmt: skip


def start(arguments: Sequence[str], said: Path) -> subprocess.Popen[bytes]:
    """The pretraining command, in a group of its own. This process writes down what it says: its disk is never full."""
    command = [sys.executable, "-m", "surgmotion_jax", "pretrain", *arguments]
    run = subprocess.Popen(
        command, env=environment(1), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    threading.Thread(target=_keep, args=(run.stdout, said), daemon=True).start()
    return run


def _keep(pipe: IO[bytes], said: Path) -> None:
    with open(said, "ab") as file:
        shutil.copyfileobj(pipe, file)


def write_videos(folder: Path) -> None:
    """Four sound videos in four containers, one damaged in its middle, one cut short."""
    folder.mkdir(parents=True)
    for seed, suffix in enumerate(("mp4", "mkv", "avi", "ts", "mp4", "mp4")):
        write_video(folder / f"case{seed}.{suffix}", seed, frames=70)
    _rewrite(folder / "case4.mp4", lambda data: data.__setitem__(slice(len(data) // 2, len(data) // 2 + 40), b"x" * 40))
    os.truncate(folder / "case5.mp4", (folder / "case5.mp4").stat().st_size // 2)


def _rewrite(file: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)


def children(parent: int) -> list[int]:
    """The processes that decode for a run, in the order in which they were started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text().rpartition(") ")[2].split()
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status[1]) == parent and b"spawn_main" in line:
            found.append(int(entry.name))
    return sorted(found)


def kill_group(run: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of a run."""
    try:
        os.killpg(run.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    run.wait()


def _wait_for(holds: Callable[[], bool], run: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert run.poll() is None, f"the run ended by itself with {run.returncode}"
        assert time.monotonic() < deadline, "the run makes no steps"
        time.sleep(0.2)


def soak(folder: Path, seconds: float, seed: int = 0, least: int = len(KINDS)) -> dict[str, object]:
    """Runs all of it; what happened, how often, and whether the ends are equal."""
    write_videos(folder / "videos")
    soaked = Soak(folder, random.Random(seed))
    soaked.go(seconds, least)
    last = soaked.finish()
    report = {"seconds": seconds, "happened": dict(soaked.happened), "last": last, "equal": soaked.equal(last)}
    (folder / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder, on a disk with a few GB of room")
    parser.add_argument("--hours", type=float, default=2.0, help="of disturbed training")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    os.environ["JAX_PLATFORMS"] = "cpu"
    report = soak(asked.folder, 3600 * asked.hours, asked.seed)
    print(json.dumps(report))
    return 0 if report["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
