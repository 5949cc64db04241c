"""Two short videos, and a pretraining command small enough to run many times."""

from __future__ import annotations

import socket
from pathlib import Path

import av
import numpy as np
import pytest

from surgmotion_jax.commands import pretrain
from tests.commands.runs import prepared

SMALL = (
    "--config=pretrain/tiny",
    "--config.model.depth=1",
    "--config.model.predictor.depth=1",
    "--config.model.predictor.width=48",
    "--config.steps=10",
    "--config.data.frames=4",
    "--config.data.canvas=(40,40)",
    "--config.augment.crop=32",
    "--config.mask.ratios=(0.5,)",
    "--config.optim.batch=8",
    "--config.optim.warmup_steps=2",
    "--config.heldout.every=100",
    "--config.heldout.clips=8",
    "--config.heldout.batch=8",
    "--config.checkpoint.every=100",
    "--config.run.log_every=1",
    "--config.run.tensorboard=off",
)


def write_video(path: Path, seed: int, frames: int = 60, size: int = 48) -> None:
    """A textured square drifting over a textured background."""
    rng = np.random.default_rng(seed)
    background = rng.integers(40, 120, (size // 8, size // 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    patch = rng.integers(120, 255, (2, 2, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            image = np.roll(background, t // 2, axis=1)
            image[8 + t // 4 : 24 + t // 4, 8 + t // 3 : 24 + t // 3] = patch
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        write_video(folder / f"case{seed}.mp4", seed)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compilation")


@pytest.fixture
def command(videos, cache):
    """Arguments of a small run in a workdir."""

    def arguments(workdir: Path, *more: str) -> list[str]:
        given = {a.split("=")[0] for a in more}
        base = [a for a in SMALL if a.split("=")[0] not in given]
        data = [] if "--data" in given else [f"--data={videos}"]
        return [*base, *data, f"--workdir={workdir}", f"--config.run.compilation_cache={cache}", *more]

    return arguments


@pytest.fixture
def run(command):
    """Runs the command in this process; returns its exit code."""
    return lambda workdir, *more: pretrain.main(command(workdir, *more))


@pytest.fixture
def prepare(command):
    """Does what the command does before it compiles; returns the session and its inputs."""
    return lambda workdir, *more: prepared(command(workdir, *more))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
