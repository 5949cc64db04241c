"""Plans: bytes equal those of live arrays, programs are sharded as the rules say, estimates follow their formulas."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from surgmotion_jax.parallel.collectives import Collective, Loop, collectives
from surgmotion_jax.parallel.compiled import Compiled, read_compiled
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.parallel.topology import CHIPS, Chip, Topology, describe
from surgmotion_jax.pretrain.plan import remedies as plan_remedies
from surgmotion_jax.pretrain.plan.plan import SHARE, largest, plan
from surgmotion_jax.pretrain.plan.program import exchanges, study
from surgmotion_jax.pretrain.plan.remedies import HOST_LINK, remedies
from surgmotion_jax.pretrain.plan.sweep import sweep
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.state import abstract_state, create_state, kept_for_parameters
from surgmotion_jax.pretrain.step import abstract_batch, jit_train_step
from tests.parallel.test_estimates import TEXT as TPU_TEXT
from tests.pretrain.fixtures import small_config

CPU = Topology("cpu:8", Chip("CPU", 2**34, 2.0**34, 1e12, 1e9, ("cpu",)), 8, compiled=True)
SHARDED = {
    **{"parallel.data": 2, "parallel.fsdp": 4, "parallel.tensor": 1, "model.remat": "full"},
    **{"model.variant": "vit_nano", "model.predictor.depth": 2},  # two: a loop of one would be no loop
}


@pytest.fixture(scope="module")
def compiled():
    """One compilation for all tests, as `plan` would make it."""
    config = small_config(**SHARDED)
    layout = MeshLayout(make_mesh(config.parallel))
    step = jit_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    lowered = step.lower(abstract_state(config, layout), abstract_batch(config, layout, config.optim.batch))
    return read_compiled(lowered.compile(compiler_options={"xla_backend_optimization_level": 0}))  # never run


@pytest.fixture(scope="module")
def planned(compiled):
    return plan(small_config(**SHARDED), CPU, jax.devices(), compile=lambda *_: compiled)


def replied(**fields):
    """A compiler that answers at once."""
    return lambda *_: Compiled(
        **({"arguments": 0, "outputs": 0, "temporaries": 0, "code": 0, "text": "", "seconds": 1.0} | fields)
    )


def bytes_on_a_device(tree) -> int:
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def live_bytes(state) -> tuple[int, int, int]:
    return (
        bytes_on_a_device(state.params),
        bytes_on_a_device(state.opt_state) + state.step.nbytes,
        bytes_on_a_device(state.target),
    )


def test_state_bytes_equal_those_of_arrays_and_of_the_compiled_arguments(planned, compiled):
    config = small_config(**SHARDED)
    shapes = abstract_state(config, MeshLayout(make_mesh(config.parallel)))
    state = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), shapes)
    memory = planned.memory
    assert (memory.parameters, memory.optimizer, memory.target) == live_bytes(state)
    assert memory.parameters < sum(x.nbytes for x in jax.tree.leaves(state.params)) / 3, "it must be sharded"
    assert compiled.arguments == memory.parameters + memory.optimizer + memory.target + memory.batch
    assert planned.checkpoint_bytes == sum(x.nbytes for x in jax.tree.leaves(state))


@pytest.mark.slow
def test_state_bytes_equal_those_of_a_created_state(planned):
    config = small_config(**SHARDED)
    state = create_state(config, MeshLayout(make_mesh(config.parallel)))
    assert (planned.memory.parameters, planned.memory.optimizer, planned.memory.target) == live_bytes(state)


def test_categories_add_up_to_what_the_compiler_says(planned, compiled):
    assert planned.memory.peak == compiled.arguments + compiled.outputs + compiled.temporaries + compiled.code
    assert 0 < planned.memory.activations < compiled.temporaries
    assert planned.fits
    assert not planned.estimated


def test_the_program_is_sharded_as_the_rules_say(planned):
    found = planned.findings
    assert found.sound, found
    assert {(e.model, e.role) for e in found.exchanges} >= {("encoder", "gather"), ("predictor", "gather")}
    # Float32 here, in one piece: three quarters of a block's weights arrive from the other three devices.
    assert all(e.share <= 0.76 for e in found.exchanges if e.role == "gather"), found.exchanges
    assert {t.axes for t in planned.traffic} <= {("data",), ("fsdp",), ("data", "fsdp")}


def test_what_is_not_sharded_is_found(compiled):
    """The same text read as another config's: its arguments are whole where the rules split them."""
    config = small_config(**SHARDED | {"parallel.fsdp": 8, "parallel.data": 1})
    layout = MeshLayout(make_mesh(config.parallel))
    found = study(config, layout, abstract_state(config, layout), compiled.text, [])
    assert found.unexpected_arguments
    assert not found.sound


def test_gathers_of_all_blocks_and_communication_before_the_model_are_found(compiled):
    config = small_config(**SHARDED)
    layout = MeshLayout(make_mesh(config.parallel))
    whole = Collective("all-gather", "gather", ("fsdp",), 4, 10**7, (), "jit(train_step)/x", "all-gather.9")
    early = dataclasses.replace(whole, operand_bytes=4, op_name="jit(train_step)/prepare/shard_map/psum")
    found = study(config, layout, abstract_state(config, layout), compiled.text, [whole, early])
    assert len(found.whole_gathers) == 1
    assert "all-gather.9: 40000000 bytes over fsdp" in found.whole_gathers[0]
    assert found.before_model == ("all-gather all-gather.9 (jit(train_step)/prepare/shard_map/psum)",)


def test_a_block_gathered_twice_in_a_pass_shows(compiled):
    config = small_config(**SHARDED)
    layout = MeshLayout(make_mesh(config.parallel))
    found = collectives(compiled.text, dict(layout.mesh.shape))
    once = exchanges(config, abstract_state(config, layout), found, 1)
    twice = exchanges(config, abstract_state(config, layout), [*found, *found], 1)
    assert [e.share for e in twice] == pytest.approx([2 * e.share for e in once])
    assert all(isinstance(loop, Loop) for c in found for loop in c.loops)


def test_time_input_and_cost_follow_from_operations():
    config = small_config(**{"data.frames": 8})
    found = plan(config, dataclasses.replace(CPU, compiled=True), jax.devices(), mfu=0.5, compile=replied())
    assert found.step_s == pytest.approx(found.flops.model / (8 * 1e12 * 0.5))
    assert found.clips_per_s == pytest.approx(8 / found.step_s)
    assert found.host_cores(0.016) == pytest.approx(found.clips_per_s / 2 * 0.016 / 2), "two hosts, half the frames"
    assert found.chip_hours == pytest.approx(config.steps * found.step_s * 8 / 3600)


def test_times_follow_from_the_compilers_estimate_unless_another_is_given_or_there_is_none():
    tpu = Topology("v5e:8", CHIPS["v5e"], 8, compiled=True)
    estimated = replied(text=TPU_TEXT)
    found = plan(small_config(), tpu, jax.devices(), compile=estimated)
    assert found.time is not None
    assert found.mfu == found.time.mfu(tpu.peak_flops).plain
    assert found.mfu_source == "by the compiler's estimate"
    assert plan(small_config(), tpu, jax.devices(), mfu=0.3, compile=estimated).mfu_source == "as given"
    assumed = plan(small_config(), describe("gpu:h100x8"))
    assert (assumed.mfu, assumed.mfu_source, assumed.time) == (0.4, "assumed", None)


def test_the_program_with_most_context_is_compiled():
    programs = mask_programs(small_config(**{"mask.ratios": (0.9, 0.45, 0.67)}).mask, small_config().grid)
    assert largest(programs).name == "tube 0.45"


@pytest.mark.slow
def test_too_much_memory_is_said_with_remedies_that_are_computed():
    config = small_config(**{"model.remat": "none", "optim.batch": 64})
    small = dataclasses.replace(CPU, chip=dataclasses.replace(CPU.chip, usable_bytes=150e6))
    found = plan(config, small, jax.devices(), compile=replied(needed=200e6))
    assert not found.fits
    assert found.estimated, "a program that does not fit has no collectives to read"
    assert found.memory.peak == pytest.approx(200e6)
    offered = remedies(found)
    assert len(offered) == 3
    assert all(r.saves > 0 for r in offered)
    assert [r.enough for r in offered] == sorted((r.enough for r in offered), reverse=True)
    assert any(r.flags == "--config.model.attention=cudnn" for r in remedies(found, most=99)), "no TPU counts as a GPU"
    assert len({r.flags.split("=")[0] for r in offered}) == 3, "one of a kind"
    already = plan(
        small_config(**{"model.remat": "full", "optim.batch": 64}), small, jax.devices(), compile=replied(needed=200e6)
    )
    assert not any("remat" in r.flags for r in remedies(already, most=99)), "nothing keeps less than full does"


@pytest.mark.parametrize("compile", [None, replied(temporaries=10**6, arguments=10**6)], ids=["estimated", "compiled"])
def test_offloaded_moments_are_the_hosts(compile):
    topology = CPU if compile else describe("gpu:h100x8")
    devices = jax.devices() if compile else ()
    kept, away = (
        plan(small_config(**{"optim.offload": offload}), topology, devices, compile=compile).memory
        for offload in (False, True)
    )
    state = abstract_state(small_config(), MeshLayout(make_mesh(small_config().parallel)))
    assert kept.host == 0
    assert away.host == sum(x.size * 4 for x in jax.tree.leaves(kept_for_parameters(state)))
    assert away.optimizer == kept.optimizer - away.host == 2 * 4, "two counters stay"
    assert away.parameters == kept.parameters


@pytest.mark.slow
def test_moments_can_be_stored_smaller_or_elsewhere(monkeypatch):
    everything = plan_remedies.changes  # other meshes take seconds
    monkeypatch.setattr(plan_remedies, "changes", lambda plan: (c for c in everything(plan) if c[0] == "moments"))

    def offered(capacity, **changes):
        gpus = describe("gpu:h100x8")
        small = dataclasses.replace(gpus, chip=dataclasses.replace(gpus.chip, usable_bytes=capacity))
        found = plan(small_config(**changes), small)
        return found, list(remedies(found))

    state = abstract_state(small_config(), MeshLayout(make_mesh(small_config().parallel)))
    moments = sum(x.size * 4 for x in jax.tree.leaves(kept_for_parameters(state)))
    found, (away,) = offered(1e6)
    assert away.flags == "--config.optim.offload=True", "where neither suffices, what saves most"
    assert away.saves == pytest.approx(moments)
    assert away.adds_s == pytest.approx(2 * moments / HOST_LINK)
    _, (halved,) = offered((found.memory.peak - moments / 3) / SHARE)
    assert halved.flags == "--config.optim.moments_dtype=bfloat16", "where both do, what costs no time"
    assert (halved.saves, halved.adds_s) == (pytest.approx(moments / 2), 0)
    assert offered(1e6, **{"optim.offload": True})[1] == [], "what is away cannot shrink"


def test_a_sweep_compiles_no_more_than_asked_and_names_the_best_that_fits():
    seen, told = [], []

    def compile(config, program, layout):
        seen.append((dict(layout.mesh.shape), config.model.remat, config.optim.accumulate))
        size = 2**33 if config.model.remat == "full" else 2**35
        return Compiled(0, 0, size, 0, "", 1.0)

    config = small_config(**{"model.remat": "none", "optim.batch": 64})
    trials = sweep(config, CPU, jax.devices(), 0.4, 3, told.append, compile)
    assert len(seen) == len(trials) <= 4
    assert len(told) == len(seen) - 1
    assert len({str(s) for s in seen}) == len(seen), "no candidate twice"
    assert trials[0].plan.config.model.remat == "full"
    assert trials[0].sound
    assert not trials[-1].sound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parallel.data": 3, "parallel.fsdp": 1}, "makes 3 devices, but there are 8"),
        ({"optim.batch": 12}, "optim.batch 12 is not divisible by 8"),
        ({"heldout.batch": 12, "heldout.clips": 12}, "heldout.batch 12 is not divisible by 8"),
        ({"parallel.data": 1, "parallel.tensor": 8}, "heads.* not divisible by"),
        ({"model.attention": "splash"}, "needs a GPU|needs a TPU"),
    ],
)
def test_what_does_not_fit_is_refused_as_the_run_would(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(small_config(**changes), CPU, jax.devices(), compile=replied())
    with pytest.raises(ValueError, match=message):
        plan(small_config(**changes), describe("gpu:h100x8"))


def test_what_is_left_to_auto_is_decided_for_the_topology():
    auto = {"parallel.mesh": "auto", "model.attention": "auto", "model.dtype": "bfloat16"}
    found = plan(small_config(**auto), describe("gpu:h100x8"))
    assert found.config.model.attention == "cudnn"
    assert found.mesh["data"] * found.mesh["fsdp"] * found.mesh["tensor"] == 8
    assert [row.axis for row in found.mesh_table] == ["data", "fsdp", "tensor"]
    assert "8 copies of the state" in found.mesh_table[0].why
    left_over = plan(small_config(**{"parallel.data": 2, "parallel.fsdp": -1}), describe("gpu:h100x8"))
    assert left_over.mesh_table == ()
    assert left_over.config.parallel.fsdp == 4, "so that a sweep knows it for what it is"
    on_cpu = plan(small_config(**auto), CPU, jax.devices(), compile=replied())
    assert on_cpu.config.model.attention == "xla"


def test_an_impossible_mfu_is_refused():
    with pytest.raises(ValueError, match="--mfu is 40; it is a share"):
        plan(small_config(), describe("gpu:h100x8"), mfu=40)
