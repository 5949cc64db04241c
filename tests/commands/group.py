"""Starting one run as several real processes on this machine, with collectives over loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from surgmotion_jax.records import read_metrics

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Run:
    """The processes of one run: `arguments[i]` are those of process i. Kills what is left when the context ends."""

    def __init__(self, folder: Path, arguments: list[list[str]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.count = folder, len(arguments)
        self.processes, port = [], free_port()
        for i, given in enumerate(arguments):
            place = (
                f"--config.distributed.coordinator=127.0.0.1:{port}",
                f"--config.distributed.processes={self.count}",
                f"--config.distributed.process={i}",
            )
            command = [sys.executable, "-m", "tests.runs.recorded", str(folder / f"rows{i}.npy"), *given]
            one_device = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
            with (folder / f"log{i}.txt").open("w") as log:  # a pipe that nobody reads would fill up
                process = subprocess.Popen(
                    [*command, *place] if self.count > 1 else command,
                    env=os.environ | one_device | {"PYTHONPATH": str(REPOSITORY)},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self.processes.append(process)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def log(self, i: int) -> str:
        return (self.folder / f"log{i}.txt").read_text()

    def logs(self) -> str:
        return "\n".join(f"--- process {i}\n{self.log(i)}" for i in range(self.count))

    def finish(self, timeout: float = 1200) -> None:
        limit = time.monotonic() + timeout
        codes = [process.wait(limit - time.monotonic()) for process in self.processes]
        assert codes == [0] * self.count, self.logs()

    def rows(self, steps: int) -> np.ndarray:
        """Sample numbers of the last steps' global batches, the processes' shares side by side."""
        return np.concatenate([np.load(self.folder / f"rows{i}.npy")[-steps:] for i in range(self.count)], axis=1)

    def wait_for_step(self, workdir: Path, step: int, timeout: float = 1200) -> None:
        """Returns once a metrics line of the step is there; fails if a process ends before."""
        limit = time.monotonic() + timeout
        while step not in losses(workdir):
            assert all(p.poll() is None for p in self.processes), self.logs()
            assert time.monotonic() < limit, self.logs()
            time.sleep(0.2)

    def kill(self, i: int) -> None:
        self.processes[i].send_signal(signal.SIGKILL)


def losses(workdir: Path) -> dict[int, float]:
    return {r["step"]: r["metrics"]["loss/total"] for r in read_metrics(workdir) if r["kind"] == "train"}
