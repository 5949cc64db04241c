"""Starting the pretraining command as a program of its own, and reading what a run left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.commands.pretrain import read_command_line
from surgmotion_jax.records import read_metrics
from surgmotion_jax.runs.announcement import announce
from surgmotion_jax.runs.inputs import gather
from surgmotion_jax.runs.resumption import check_resumable
from surgmotion_jax.runs.session import opened

REPOSITORY = Path(__file__).parents[2]

VERY_SMALL = (
    "--config.model.variant=vit_nano",
    "--config.model.depth=1",
    "--config.model.predictor.width=48",
    "--config.model.predictor.depth=1",
    "--config.model.predictor.heads=2",
    "--config.data.frames=4",
    "--config.data.canvas=(40,40)",
    "--config.augment.crop=32",
    "--config.mask.ratios=(0.5,)",
    "--config.optim.batch=8",
    "--config.optim.warmup_steps=1",
    "--config.heldout.every=2",
    "--config.heldout.clips=8",
    "--config.heldout.batch=8",
    "--config.checkpoint.every=2",
    "--config.run.tensorboard=off",
)
"""Flags of a training of seconds, apart from its steps and the rate of its clips."""


def losses(workdir, kind="train", name="loss/total"):
    return {r["step"]: r["metrics"][name] for r in read_metrics(workdir) if r["kind"] == kind}


def state(workdir):
    return leaves_by_path(load_subtree(workdir / "checkpoints", ["step", "params", "target", "opt_state"]).state)


def environment(devices):
    """This process's, with another number of fake devices."""
    count = "--xla_force_host_platform_device_count="
    flags = re.sub(rf"{count}\d+", f"{count}{devices}", os.environ["XLA_FLAGS"])
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


def prepared(arguments):
    """What the command does before it compiles anything: the session and everything that it found."""
    config, workdir = read_command_line(arguments)
    with opened(config, workdir) as session:
        check_resumable(session)
        inputs = gather(session)
        announce(session, inputs)
        return session, inputs
