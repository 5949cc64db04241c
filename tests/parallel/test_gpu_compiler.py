"""Compiling for GPUs that are not there: their descriptions, and what the compiled text says of kernels."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from surgmotion_jax.parallel import gpu_compiler
from surgmotion_jax.parallel.gpu_kernels import kernel_counts
from surgmotion_jax.parallel.topology import describe, with_compiler
from tests import needs

TEXT = """HloModule jit_step

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8] get-tuple-element(%state), index=1
  %product = (f32[8], s8[16]) custom-call(%x), custom_call_target="__cublas$lt$matmul"
  %y = f32[8] get-tuple-element(%product), index=0
  %attended = (f32[8], u8[0]) custom-call(%y), custom_call_target="__cudnn$fmhaSoftmax"
  %normed = f32[8] fusion(%y), kind=kCustom, calls=%inner, backend_config={"fusion_backend_config":{"kind":"__triton"}}
  ROOT %carried = (s32[], f32[8]) tuple(%i, %normed)
}

%condition (state.1: (s32[], f32[8])) -> pred[] {
  %state.1 = (s32[], f32[8]) parameter(0)
  ROOT %less = pred[] constant(true)
}

%inner (p: f32[8]) -> f32[8] {
  %p = f32[8] parameter(0)
  ROOT %negated = f32[8] negate(%p)
}

ENTRY %main (arg.0: (s32[], f32[8])) -> (s32[], f32[8]) {
  %arg.0 = (s32[], f32[8]) parameter(0)
  %gathered = f32[16] all-gather-start(%arg.0), channel_id=1
  %done = f32[16] all-gather-done(%gathered)
  %backward = (f32[8], u8[0]) custom-call(%arg.0), custom_call_target="__cudnn$fmhaSoftmaxBackward"
  ROOT %loop = (s32[], f32[8]) while(%arg.0), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
}
"""  # noqa: E501


def test_kernels_are_counted_by_kind_and_as_often_as_their_loop_turns():
    assert kernel_counts(TEXT) == {
        "cuBLAS products": 12,
        "cuDNN attention, forward": 12,
        "Triton": 12,
        "all-gather": 1,
        "cuDNN attention, backward": 1,
    }


def test_descriptions_are_those_that_the_plugin_carries_and_the_shipped_one(tmp_path):
    carried = b'gpu_device_info {\n  core_count: 7\n}\ndevice_description_str: "NVIDIA X1"\n'
    library = tmp_path / "plugin.so"
    library.write_bytes(b"\x7fELF" + carried + b"\0more\0gpu_device_info {\n unnamed\0")
    found = gpu_compiler.descriptions(library)
    assert set(found) == {"NVIDIA X1", "NVIDIA H100 80GB HBM3"}
    assert found["NVIDIA X1"] == carried.decode()
    assert "core_count: 132" in found["NVIDIA H100 80GB HBM3"]


def test_what_can_be_compiled_for_depends_on_the_plugin(monkeypatch, tmp_path):
    library = tmp_path / "plugin.so"
    library.write_bytes(b"nothing is carried")
    monkeypatch.setattr(gpu_compiler, "plugin", lambda: library)
    assert with_compiler(describe("gpu:h100x8")).compiled
    assert with_compiler(describe("gpu:h100x16")).compiled
    assert not with_compiler(describe("gpu:h100x12")).compiled, "a host and a half cannot be described"
    assert not with_compiler(describe("gpu:a100x8")).compiled, "neither carried nor shipped"
    monkeypatch.setattr(gpu_compiler, "plugin", lambda: None)
    assert not with_compiler(describe("gpu:h100x8")).compiled
    assert with_compiler(describe("v5e:2x2")).compiled, "TPU slices always are"


@pytest.mark.slow
@needs.CUDA_PLUGIN
@pytest.mark.parametrize(
    ("config", "attention"),
    [
        ("pretrain/tiny", "attention xla"),
        ("pretrain/surgmotion_vitl:stage1", "attention cudnn"),
        ("pretrain/surgmotion_vitl:stage2", "attention cudnn"),
    ],
)
def test_a_step_is_compiled_for_an_h100(config, attention):
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = (sys.executable, "-m", "surgmotion_jax", "plan", f"--config={config}", "--topology=gpu:h100x1")
    done = subprocess.run(
        (*command, "--config.optim.batch=8"), check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert attention in done.stdout
    assert "compiled in" in done.stdout
    assert "cuBLAS products" in done.stdout
    assert ("cuDNN attention, backward" in done.stdout) == ("cudnn" in attention)


# Peaks of the compiler, jax 0.10.2, in GiB: 6.83, 7.86, 10.49, 4.14, 9.11 in this order.
FORMULA = (
    ("surgmotion_vitl:stage1", "h100x1", 8, ("model.attention=cudnn",)),
    ("surgmotion_vitl:stage1", "h100x1", 8, ("model.attention=xla",)),
    ("surgmotion_vitl:stage1", "h100x1", 8, ("model.attention=cudnn", "model.remat=none")),
    ("surgmotion_vitg:stage1", "h100x8", 64, ("model.attention=cudnn",)),
    ("vjepa2_vitl", "h100x1", 8, ("model.attention=cudnn",)),
)


@pytest.mark.slow
@needs.CUDA_PLUGIN
@pytest.mark.parametrize(("config", "topology", "batch", "more"), FORMULA)
def test_the_formula_for_memory_is_near_the_compilers(config, topology, batch, more):
    flags = (f"optim.batch={batch}", f"heldout.batch={batch}", *more)
    line = (f"--config=pretrain/{config}", f"--topology=gpu:{topology}", *(f"--config.{flag}" for flag in flags))
    assert peak_gib(line, hidden=True) == pytest.approx(peak_gib(line), rel=0.05)


@pytest.mark.slow
@needs.CUDA_PLUGIN
def test_moments_in_host_memory_are_planned_for_a_gpu_that_is_not_there():
    line = ("--config=pretrain/tiny", "--topology=gpu:h100x1", "--config.optim.batch=8", "--config.optim.offload=True")
    assert re.search(r"optimiser +0.00 GiB a device \(8 bytes\); 0.02 GiB in host memory", planned(line))


def peak_gib(line, hidden=False):
    """What `plan` says; with the plugin `hidden` it has nothing but the formula."""
    return float(re.search(r"peak +([\d.]+) GiB", planned(line, hidden))[1])


def planned(line, hidden=False):
    """What `plan` prints, in a process of its own."""
    hide = "from surgmotion_jax.parallel import gpu_compiler; gpu_compiler.plugin = lambda: None; " if hidden else ""
    code = f"{hide}from surgmotion_jax.commands.plan import main; main({list(line)!r})"
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run((sys.executable, "-c", code), check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert ("compiled in" in done.stdout) != hidden
    return done.stdout
