"""The plan of an evaluation compiles what the evaluation runs. A CPU stands for the GPU that is not there."""

from __future__ import annotations

import json
import types

import jax
import numpy as np
import pytest

from surgmotion_jax import config as door
from surgmotion_jax.evaluate import plan as evaluation_plan
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.features.windows_of_cases import Position
from surgmotion_jax.evaluate.heads import targets
from surgmotion_jax.evaluate.heads.fit import Batches, TrainingSet, Zeros
from surgmotion_jax.evaluate.plan import attention_weights, batch_shapes, plan_evaluation
from surgmotion_jax.parallel.compiled import Compiled
from surgmotion_jax.parallel.topology import GPUS, Chip, Topology, describe, devices_of, with_compiler
from surgmotion_jax.runs.evaluation_plan import as_json, lines
from tests import needs

ONE_GPU = Topology("gpu:h100x1", GPUS["h100"], 1, compiled=True)


def small(name="cholect50", **changes):
    changes = {"data.size": 32, "data.frames": 4, "sweep.strategy": "auto"} | changes
    return door.build(EvaluateConfig, door.with_overrides(door.load_config(f"evaluate/{name}:small"), changes))


def planned(config, encoder="vit_nano"):
    return plan_evaluation(config, encoder, ONE_GPU, jax.devices()[:1])


def said(plan):
    return [f"{name}: {text}" for name, text in lines(plan)]


def test_both_ways_to_train_the_heads_are_compiled_and_the_better_one_comes_first():
    plan = planned(small())
    assert {way.name for way in plan.ways} == {"vmap", "loop"}
    assert plan.ways[1].touched > plan.ways[0].touched > 0
    vmap, loop = sorted(plan.ways, key=lambda way: -way.plan.group)
    assert (vmap.plan.groups, loop.plan.groups) == (1, 4)
    assert vmap.plan.working_bytes > loop.plan.working_bytes
    assert vmap.plan.state_bytes == loop.plan.state_bytes
    assert plan.fits
    assert plan.encoding.tokens == 2 * 2 * 2
    assert json.loads(json.dumps(as_json(plan)))["strategies"] == [way.name for way in plan.ways]
    text = "\n".join(said(plan))
    assert "vmap: 4 heads, 4 at a time; 16 windows a step, float32" in text
    assert "which is a ranking; sweep.strategy=auto measures it" in text


def test_blocks_of_a_head_keep_attention_weights_without_a_kernel():
    plan = planned(small(**{"probe.depth": 2}))
    assert plan.attention == "xla"
    assert all(way.weights for way in plan.ways)
    assert any("attention weights lie in memory" in line for line in said(plan))


def test_an_encoder_that_does_not_fit_is_said(monkeypatch):
    refused = Compiled(0, 0, 0, 0, "", 1.0, needed=100 * 2**30)
    monkeypatch.setattr(evaluation_plan, "compile_program", lambda compile: refused)
    plan = planned(small())
    assert not plan.fits
    assert any("exceeds it by 44" in line for line in said(plan))


@needs.CUDA_PLUGIN
@pytest.mark.slow
def test_on_a_gpu_cudnn_keeps_no_attention_weights():
    changes = {"probe.heads": 6, "probe.depth": 2, "probe.dtype": "bfloat16", "data.frames": 8, "sweep.batch": 4}
    topology = with_compiler(describe("gpu:h100x8"))
    plan = plan_evaluation(small(**changes), "vit_small", topology, devices_of(topology))
    assert plan.attention == plan.encoding.attention == "cudnn"
    assert plan.encoding.kernels["cuDNN attention, forward"] == 12
    assert not any(way.weights for way in plan.ways)
    assert not plan.encoding.weights


def test_what_does_not_fit_is_said():
    tiny = Topology("gpu:h100x1", Chip("a GPU", 2e7, 2e7, 1e12, 1e9, ()), 1, compiled=True)
    with pytest.raises(ValueError, match="4 heads, 1 at a time, need .* a device, but .* are there"):
        plan_evaluation(small(), "vit_nano", tiny, jax.devices()[:1])


@pytest.mark.parametrize(("name", "head"), [("c3vd", "dense"), ("polyp_segmentation", "patch_linear")])
def test_heads_of_pixels_have_a_plan_too(name, head):
    plan = planned(small(name, **{"probe.head": head, "data.frames": 1, "sweep.strategy": "loop"}))
    assert [way.name for way in plan.ways] == ["loop"]
    assert "attention" not in next(line for line in said(plan) if line.startswith("loop"))


def test_a_head_whose_batches_depend_on_the_data_has_none():
    plan = planned(small("cholec80", **{"probe.head": "temporal"}))
    assert (plan.ways, plan.fits) == ((), True)
    assert any("nothing is planned for the temporal head" in line for line in said(plan))


def test_an_encoder_that_there_is_not_and_a_head_of_another_family_are_refused():
    for name in ("vit_enormous", "random:vit_nano", "vit_nano:3", "vit_nano/x"):
        with pytest.raises(ValueError, match=f"--encoder '{name}': give VARIANT or VARIANT/PATCH, .*vit_nano"):
            planned(small(), name)
    with pytest.raises(ValueError, match="finetune.blocks is full, but the plan is that of a frozen encoder"):
        planned(small(**{"finetune.blocks": "full"}))
    with pytest.raises(ValueError, match="v5e:4x4 has 4 hosts, .* give at most 4 chips"):
        plan_evaluation(small(), "vit_nano", describe("v5e:4x4"), ())
    with pytest.raises(ValueError, match="probe.head is dense, but the benchmark's family is triplet"):
        planned(small(**{"probe.head": "dense"}))


@pytest.mark.parametrize(
    ("head", "shape", "objective", "label"),
    [
        ("attentive", (2, 4, 4, 12), targets.classification([0, 1], ("a", "b")), np.zeros((3,), int)),
        ("linear", (12,), targets.regression([0.0, 1.0]), np.zeros((3,))),
        ("dense", (4, 1, 2, 2, 12), targets.segmentation(), np.zeros((3, 32, 32), bool)),
    ],
)
def test_the_shapes_are_those_of_the_batches_that_train(head, shape, objective, label):
    config = small(**{"probe.head": head, "sweep.batch": 3})
    truths = types.SimpleNamespace(rows=lambda positions: {"label": label, "mask": np.ones(label.shape, bool)})
    data = TrainingSet(tuple(Position(0, row) for row in range(3)), Zeros(shape), truths)
    batch = next(Batches(data, head, 3, seed=0).from_step(0, 1))
    found = batch_shapes(config, objective, shape)
    assert [(x.shape, np.dtype(x.dtype)) for x in found[:3]] == [(x.shape, x.dtype) for x in batch[:3]]


def test_attention_weights_in_memory_are_found_and_those_within_a_fusion_are_not():
    text = """HloModule m

%inner (p: f32[2,8,8]) -> f32[2,8,8] {
  %p = f32[2,8,8]{2,1,0} parameter(0)
  ROOT %e = f32[2,8,8]{2,1,0} exponential(%p)
}

ENTRY %main (a: f32[2,8,4]) -> f32[2,8,4] {
  %a = f32[2,8,4]{2,1,0} parameter(0)
  %w = (f32[2,8,8]{2,1,0}, u8[4]) custom-call(%a), custom_call_target="x"
  ROOT %f = f32[2,8,4]{2,1,0} fusion(%w), kind=kLoop, calls=%inner
}
"""
    assert attention_weights(text, 8, heads=2) == ("w f32[2,8,8]",)
    assert attention_weights(text, 8, heads=3) == (), "two are no set of three heads: a projection"
    assert attention_weights(text, 4, heads=2) == attention_weights("", 8, heads=2) == ()


@pytest.mark.slow
@needs.LIBTPU
def test_on_a_tpu_both_programs_have_a_time_and_no_attention_weights():
    """Heads of 64: the kernels take them, also for several heads of a sweep at once."""
    changes = {"probe.heads": 6, "probe.depth": 2, "probe.dtype": "bfloat16", "data.frames": 8, "sweep.batch": 4}
    topology = describe("v5e:2x2")
    plan = plan_evaluation(small(**changes), "vit_small", topology, devices_of(topology))
    assert plan.attention == plan.encoding.attention == "fused"
    assert plan.encoding.seconds.plain > 0
    assert all(way.time.plain > 0 and not way.unknown_kernels and not way.weights for way in plan.ways)
