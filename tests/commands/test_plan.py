"""`surgmotion plan`: what it prints and writes, and what bad input gets. Compiling is tested beside the plan itself."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from surgmotion_jax.commands.plan import main
from surgmotion_jax.parallel import gpu_compiler
from surgmotion_jax.parallel.topology import TPU_ENVIRONMENT

TINY = ("--config=pretrain/tiny", "--topology=gpu:h100x8", "--config.optim.batch=64", "--config.heldout.batch=8")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The command completes the environment; a test's must be as before. Where there is a plugin it is not asked."""
    monkeypatch.setattr(gpu_compiler, "plugin", lambda: None)
    for name in TPU_ENVIRONMENT:
        monkeypatch.setenv(name, "cpu" if name == "JAX_PLATFORMS" else "1")


def test_a_plan_needs_neither_data_nor_devices(capsys, tmp_path):
    assert main([*TINY, f"--json={tmp_path / 'plan.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "nothing compiled: estimates throughout" in printed
    labels = [line.split()[0] for line in printed.splitlines()]
    assert labels[:4] == ["topology", "mesh", "step", "parameters"]
    assert {"optimiser", "EMA", "activations", "temporaries", "peak", "operations", "checkpoint", "cost"} <= set(labels)
    assert "from JPEG records (16 ms for 16 frames)" in printed
    written = json.loads((tmp_path / "plan.json").read_text())
    assert f"({written['memory']['parameters']} bytes)" in printed
    assert written["fits"]
    assert written["remedies"] == []
    assert {"jax", "surgmotion-jax"} & set(written["versions"])


def test_weights_to_start_from_are_not_asked_for(capsys):
    """Stage 2 must be given stage 1's weights to run, but not to be planned."""
    stage2 = "--config=pretrain/surgmotion_vitl:stage2"
    assert main([stage2, "--topology=gpu:h100x8", "--config.model.attention=cudnn"]) == 0
    assert "64 frames" in capsys.readouterr().out


def test_an_automatic_mesh_is_explained(capsys, tmp_path):
    assert main([*TINY, "--config.parallel.mesh=auto", f"--json={tmp_path / 'plan.json'}"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"mesh  data +8  8 copies of the state", printed)
    assert re.search(
        r"mesh  fsdp +1  state and gradients of .* a device, of 60 GB; an update is quick without splitting", printed
    )
    assert re.search(r"mesh  tensor +1  every device has clips of its own", printed)
    table = json.loads((tmp_path / "plan.json").read_text())["mesh_table"]
    assert [(row["axis"], row["size"]) for row in table] == [("data", 8), ("fsdp", 1), ("tensor", 1)]


def test_offloaded_moments_are_listed_as_the_hosts(capsys):
    assert main([*TINY, "--config.optim.offload=True"]) == 0
    assert re.search(r"optimiser  0.00 GiB a device \(8 bytes\); 0.0\d GiB in host memory", capsys.readouterr().out)


def test_too_little_memory_says_by_how_much_and_three_remedies(capsys):
    flags = ["--config.optim.batch=1048576", "--config.model.remat=none", "--config.model.attention=xla"]
    assert main([*TINY, *flags]) == 1
    printed = capsys.readouterr().out
    assert "exceeds it by" in printed
    assert "diversity then sees one micro-batch" in printed
    remedies = [line for line in printed.splitlines() if line.split()[0] == "remedy"]
    assert len(remedies) == 3
    assert all("saves about" in line and "s a step; " in line for line in remedies)


EVALUATION = ("--config=evaluate/cholect50:small", "--topology=gpu:h100x8")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (EVALUATION, r"needs the encoder; add --encoder=VARIANT\[/PATCH\], as vit_large"),
        ((*TINY, "--encoder=vit_nano"), "pretrain/tiny is a pretraining config"),
        ((*EVALUATION, "--encoder=vit_nano", "--sweep"), "--sweep and --mfu are for pretraining"),
    ],
)
def test_an_evaluation_is_planned_with_its_encoder(flags, message):
    with pytest.raises(ValueError, match=message):
        main(list(flags))


def test_an_evaluation_is_not_planned_without_a_compiler():
    with pytest.raises(ValueError, match=r"there is none for it here; run pip install -e '.\[gpu-plan\]'"):
        main([*EVALUATION, "--encoder=vit_nano"])


def test_a_sweep_names_the_best_and_writes_every_trial(capsys, tmp_path):
    assert main([*TINY, "--sweep", "--compilations=2", f"--json={tmp_path / 'sweep.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "best: data" in printed
    assert "2 of at most 2:" in printed
    assert len(json.loads((tmp_path / "sweep.json").read_text())["trials"]) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=pretrain/tiny"], "--topology is missing; give --topology=NAME"),
        ([*TINY, "--topolgy=x"], "unknown argument '--topolgy=x'"),
        ([*TINY, "--mfu=much"], "--mfu is 'much'; it must be a number"),
        ([*TINY, "--mfu=0"], "--mfu is 0"),
        (
            ["--config=pretrain/tiny", "--topology=v5e:3x3"],
            "there is no TPU v5e slice of shape '3x3'; there are v5e:2x2",
        ),
        ([*TINY, "--config.parallel.data=3"], "makes 3 devices, but there are 8"),
        ([*TINY, "--config.optim.batch=60"], "optim.batch 60 is not divisible by 8"),
    ],
)
def test_bad_input_is_named(flags, message):
    with pytest.raises(ValueError, match=message):
        main(flags)


def test_missing_libtpu_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name))
    with pytest.raises(ValueError, match=r"needs libtpu.*pip install -e '.\[tpu\]'"):
        main(["--config=pretrain/tiny", "--topology=v5e:2x2"])


def test_help_names_flags_and_configs(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "--topology=NAME" in printed
    assert "pretrain/tiny" in printed
