"""Runs whose targets come from elsewhere than a moving average: what they leave, and that they resume bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.checkpoints.retention import read_manifest
from surgmotion_jax.checkpoints.weights import find_weights
from surgmotion_jax.evaluate.encoder.frozen import load_encoder
from tests.commands.runs import losses

OFF = ("--config.loss.affinity.weight=0", "--config.loss.diversity.weight=0", "--config.loss.motion.alpha=0")
PIXELS = (
    "--config.objective.kind=pixel",
    "--config.objective.decoder.width=48",
    "--config.objective.decoder.depth=1",
    "--config.objective.decoder.heads=3",
    "--config.model.heads=6",
    *OFF,
)
ONLINE = (
    "--config.objective.targets=online",
    "--config.optim.ema=0",
    "--config.optim.final_ema=0",
    "--config.loss.sigreg.weight=0.02",
    "--config.loss.sigreg.slices=32",
)
ARMS = {
    "frozen": ("--config.objective.targets=frozen", "--config.optim.ema=1", "--config.optim.final_ema=1"),
    "online": ONLINE,
    "lejepa": (*ONLINE, "--config.objective.stop_gradient=False", "--config.loss.sigreg.of=targets"),
    "vicreg": ("--config.loss.diversity.weight=1", "--config.loss.covariance.weight=0.04"),
    "late": (
        "--config.saliency.kind=normal_flow",
        "--config.mask.kind=multiblock",
        "--config.mask.draw=one",
        "--config.mask.sets.short.target=0.5",
        "--config.mask.sets.long.target=0.75",
        "--config.loss.motion.reduce=count",
        "--config.loss.motion.dense_norm=none",
        "--config.loss.diversity.over=clip",
        "--config.loss.diversity.unbiased=True",
        "--config.loss.relation.weight=0.1",
        "--config.loss.affinity.weight=0",
    ),
}


@pytest.fixture(scope="module")
def stage_one(tmp_path_factory):
    return tmp_path_factory.mktemp("pixels")


@pytest.fixture
def teacher(stage_one, run):
    """A workdir of stage one of SALT, which predicts pixels."""
    if not (stage_one / "metrics.jsonl").exists():
        assert run(stage_one, "--config.steps=2", *PIXELS) == 0
    return stage_one


def digests(workdir, place):
    tree = read_manifest(find_weights(workdir)).tree
    return {path.removeprefix(f"{place}/"): leaf["digest"] for path, leaf in tree.items() if path.startswith(place)}


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_resumes_bit_by_bit(arm, run, teacher, tmp_path):
    flags = [*ARMS[arm], "--config.steps=4"]
    flags += [f"--config.objective.teacher={teacher}"] if arm == "frozen" else []
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, *flags) == 0
    assert run(parts, *flags, "--config.run.stop_at_step=2") == 0
    assert run(parts, *flags) == 0
    assert losses(parts) == losses(whole)
    assert digests(parts, "") == digests(whole, "") != {}, "all arrays of the last state"
    if arm == "frozen":
        assert digests(parts, "teacher") == digests(teacher, "target"), "the teacher's bytes do not move"
    if arm not in ("late", "vicreg"):
        clip = np.zeros((1, 4, 32, 32, 3), np.uint8)
        target, online = (load_encoder(parts, weights=name)(clip) for name in ("target", "online"))
        np.testing.assert_array_equal(target, online, err_msg="without an average both names mean the student")


def test_contradictions_are_said_before_anything_is_compiled(prepare, tmp_path):
    with pytest.raises(ValueError, match=r"objective.teacher is empty; name a pretraining workdir"):
        prepare(tmp_path, *ARMS["frozen"])
    with pytest.raises(ValueError, match=r"nowhere.*no such directory; check the path"):
        prepare(tmp_path, *ARMS["frozen"], f"--config.objective.teacher={tmp_path}/nowhere")
