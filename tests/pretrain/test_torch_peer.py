"""The peer does the same work: the same losses step by step, from the same weights. And what it refuses."""

from __future__ import annotations

import importlib.util
import json

import jax
import pytest

from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.commands.conftest import SMALL
from tests.pretrain.fixtures import small_config
from tests.pretrain.given_step import given_step, synthetic_given
from tests.pretrain.peer_bench import LINE, run
from tests.pretrain.test_bench import PLAIN, TINY
from tests.pretrain.torch_peer import TorchStep, check_peer


@pytest.mark.oracle
def test_four_steps_have_the_losses_of_ours():
    """Warm-up, weight decay and averaging included; masks that leave tokens out, and tokens that differ by clip."""
    config = small_config(**PLAIN, **TINY, **{"optim.ema": 0.5, "optim.final_ema": 0.5})
    layout = MeshLayout(make_mesh(config.parallel, jax.devices()[:1]))
    given = synthetic_given(config, ((10, 17), (6, 24)))
    ours = given_step(config, layout, given)
    peer = TorchStep(config, ours.state.params, given, threads=1)
    losses = []
    for _ in range(4):
        ours(), peer()
        losses.append((ours.loss, peer.loss))
    for mine, theirs in losses:
        assert mine == pytest.approx(theirs, abs=2e-5)
    assert abs(losses[0][0] - losses[-1][0]) > 5e-3, "the updates must matter, or this test shows nothing"


@pytest.mark.oracle
def test_the_peer_ends_at_the_same_loss(capsys, tmp_path):
    """Ours over eight devices, the peer on one."""
    flags = ["--steps=2", "--warmup=1", "--counts=3/4,2/4", f"--json={tmp_path / 'bench.json'}"]
    plain = [f"--config.{f}" for f in ("loss.motion.alpha=0", "loss.affinity.weight=0", "loss.diversity.weight=0")]
    assert LINE.run([*SMALL, *flags, *plain], run) == 0
    printed = capsys.readouterr().out
    losses = [float(line.split()[1]) for line in printed.splitlines() if line.split()[0] == "loss"]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert "given: 3 context + 4 target, 2 context + 4 target" in printed
    assert list(json.loads((tmp_path / "bench.json").read_text())["subjects"]) == ["ours", "torch"]


def test_a_config_that_does_more_than_the_peer_is_refused_with_the_flags_to_set(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    config = small_config(**{**PLAIN, "loss.affinity.weight": 0.1})
    with pytest.raises(ValueError, match=r"loss.affinity.weight is 0.1; .* needs --config.loss.affinity.weight=0\."):
        check_peer(config)
    check_peer(small_config(**PLAIN))


def test_missing_pytorch_is_named_with_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(ValueError, match=r"needs torch, not installed here; pip install -e '.\[torch\]'"):
        check_peer(small_config(**PLAIN))
