"""The public functions: three lines from a config to an encoder and its score, and mistakes in plain words."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

import surgmotion_jax
from surgmotion_jax import config as door
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.configuration import read_config
from tests.evaluate.evaluations import cholec80

SMALL = {
    "model.depth": 1,
    "model.predictor.depth": 1,
    "model.predictor.width": 48,
    "steps": 2,
    "data.frames": 4,
    "data.canvas": (40, 40),
    "augment.crop": 32,
    "mask.ratios": (0.5,),
    "optim.batch": 8,
    "optim.warmup_steps": 1,
    "heldout.every": 100,
    "heldout.clips": 8,
    "heldout.batch": 8,
    "run.tensorboard": "off",
}


def test_a_run_is_a_function_from_a_config_to_an_ending(videos, cache, tmp_path, capsys):
    overrides = SMALL | {"run.compilation_cache": str(cache)}
    run = surgmotion_jax.pretrain("pretrain/tiny", tmp_path, data=str(videos), overrides=overrides)
    assert (run.kind, run.step, run.reason, run.complete) == ("finished", 2, "", True)
    assert "finished at step 2" in capsys.readouterr().out
    assert {"loss/total", "heldout/loss", "gauge/rankme"} <= set(run.metrics)
    told = io.StringIO()
    again = surgmotion_jax.pretrain("pretrain/tiny", tmp_path, data=str(videos), overrides=overrides, stream=told)
    assert again.kind == "nothing-to-do"
    assert again.metrics == pytest.approx(run.metrics)
    assert "nothing to do" in told.getvalue()
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "environment.json").read_text())["command"] == "surgmotion_jax.pretrain(...)"
    tokens = surgmotion_jax.load_encoder(run.workdir)(np.zeros((1, 4, 32, 32, 3), np.uint8))
    assert tokens.shape == (1, 2, 2, 2, 192)


def test_an_evaluation_is_a_function_from_a_config_to_results(tmp_path):
    root = cholec80(tmp_path / "set")
    overrides = {"probe.head": "linear", "data.size": 32, "data.frames": 4, "report.resamples": 50}
    said = []
    results = surgmotion_jax.evaluate(
        "evaluate/cholec80:small",
        checkpoint="random:vit_nano",
        root=root,
        workdir=tmp_path / "run",
        overrides=overrides,
        say=said.append,
    )
    assert results == json.loads((tmp_path / "run" / "results.json").read_text())
    assert said[0].startswith("cholec80 (first protocol), recipe ours: 4 frames")
    assert (tmp_path / "run" / "report.html").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["root"] == str(root)
    with pytest.raises(ValueError, match="give either a checkpoint or a folder of features"):
        surgmotion_jax.evaluate("evaluate/cholec80:small", root=root, workdir=tmp_path / "none")


def test_a_config_is_named_given_or_built(videos):
    named = read_config(EvaluateConfig, "evaluate/cholec80:small", {"data.frames": 8})
    given = door.load_config("evaluate/cholec80:small")
    frames = given.data.frames
    assert read_config(EvaluateConfig, given, {"data.frames": 8}) == named
    assert given.data.frames == frames != 8, "the caller's config stays as it is"
    assert read_config(EvaluateConfig, named, {}) is named
    assert read_config(EvaluateConfig, named, {"data.frames": frames}).data.frames == frames


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("pretrain/tinny", {}, "config 'pretrain/tinny' is neither a file nor one of"),
        ("pretrain/tiny", {"optim.lrr": 1}, r"optim.lrr=1: config.optim has no field 'lrr'.*Did you mean 'lr'"),
        ("pretrain/tiny", {"optim": 1}, "config.optim is a section; override its fields"),
        ("pretrain/tiny", {"steps": "ten"}, "steps: Could not override field 'steps'"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_name(config, overrides, message):
    with pytest.raises(ValueError, match=message):
        read_config(PretrainConfig, config, overrides)


def test_the_functions_stand_beside_the_packages_of_their_names():
    assert {"pretrain", "evaluate", "load_encoder"} <= set(surgmotion_jax.__all__)
    assert callable(surgmotion_jax.pretrain)
    assert callable(surgmotion_jax.evaluate)
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        surgmotion_jax.pretrian  # noqa: B018
