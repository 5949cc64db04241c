"""Taking turns, quartiles and ratios; what the given step does; counts read from a flag."""

from __future__ import annotations

import dataclasses
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.pixels import normalise_pixels
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.bench.steps import Compilation, OurStep, synthetic_clips
from surgmotion_jax.pretrain.bench.timing import Quartiles, StepTime, mfu, quartiles, ratios, take_turns
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.state import abstract_state
from surgmotion_jax.pretrain.step import prepare_shards, train_step
from tests.pretrain.fixtures import random_batch, small_config
from tests.pretrain.given_step import Given, counted, read_counts, synthetic_given, train_on_given

PLAIN = {
    "saliency.kind": "none",
    "saliency.fov": "none",
    "loss.motion.alpha": 0.0,
    "loss.affinity.weight": 0.0,
    "loss.diversity.weight": 0.0,
}
TINY = {
    **{"model.variant": "vit_nano", "model.depth": 1, "model.width": 48, "model.mlp": 96},
    **{"model.predictor.width": 24, "model.predictor.heads": 3, "data.frames": 4, "data.canvas": (32, 32)},
    **{"augment.crop": 32, "mask.ratios": (0.5,), "model.patch": 8},
    **{"optim.batch": 2, "heldout.batch": 2, "heldout.clips": 2},
}


def seconds(total: float) -> StepTime:
    return StepTime(0.0, 0.0, total)


def test_every_subject_makes_one_step_a_round_and_each_is_first_in_its_turn():
    order = []

    def subject(name):
        def step():
            order.append(name)
            return seconds(len(order))

        return step

    found = take_turns({name: subject(name) for name in "abc"}, warmup=1, rounds=3)
    assert ["".join(order[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
    assert [t.total for t in found["a"]] == [6, 8, 10], "the first round does not count"
    assert {len(times) for times in found.values()} == {3}


def test_quartiles_are_those_of_numpy():
    values = list(np.random.default_rng(0).normal(size=11))
    found = quartiles(values)
    want = np.quantile(values, [0.25, 0.5, 0.75])
    np.testing.assert_allclose([found.lower, found.median, found.upper], want)
    assert quartiles([2.0]) == Quartiles(2.0, 2.0, 2.0)


def test_a_slow_spell_of_the_machine_cancels_in_ratios_by_round():
    slow = [1, 1, 5, 5, 5, 1]
    ours, theirs = ([seconds(base * s) for s in slow] for base in (0.9, 1.0))
    assert dataclasses.astuple(ratios(ours, theirs)) == pytest.approx((0.9, 0.9, 0.9))


def test_mfu_is_a_share_of_the_peak_of_all_devices_or_unknown():
    assert mfu(989e12, 2.0, "NVIDIA H100 80GB HBM3", 4, "bfloat16") == pytest.approx(1 / 8)
    assert mfu(378e12, 1.0, "NVIDIA H100 PCIe", 1, "bfloat16") == pytest.approx(1 / 2), "a slower chip of that name"
    assert mfu(275e12, 1.0, "TPU v4", 2, "bfloat16") == pytest.approx(1.0), "two devices a chip"
    assert mfu(1e12, 1.0, "NVIDIA H100 80GB HBM3", 1, "float32") is None
    assert mfu(1e12, 1.0, "cpu", 1, "bfloat16") is None


def test_counts_of_a_flag():
    assert read_counts("104/136,48/240", Grid(8, 6, 6)) == ((104, 136), (48, 240))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("104", "'104' is not CONTEXT/TARGET"),
        ("104/0", "'104/0' is not CONTEXT/TARGET"),
        ("104/-3", "not CONTEXT/TARGET"),
        ("48/240,100/200", "100/200 are 300 tokens, but a clip has 288"),
    ],
)
def test_bad_counts_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        read_counts(text, Grid(8, 6, 6))


def test_operations_of_given_counts_are_those_of_a_program_with_these_counts():
    config = small_config(**{"mask.kind": "multiblock"})
    (program,) = mask_programs(config.mask, config.grid)
    same = counted(tuple(zip(program.contexts, program.targets, strict=True)), config.grid)
    assert step_flops(config, [same]) == step_flops(config, [program])
    fewer = counted(((4, 10),), config.grid)
    assert fewer.contexts == (4,)
    assert step_flops(config, [fewer]).model < step_flops(config, [program]).model


def test_synthetic_clips_differ_and_move():
    config = small_config()
    clips = synthetic_clips(config, (2, 5))
    assert clips.video_BxTxHxWx3.shape == (3, config.data.frames, *config.data.canvas, 3)
    assert clips.video_BxTxHxWx3.dtype == np.uint8
    np.testing.assert_array_equal(clips.index_B, [2, 3, 4])
    video = clips.video_BxTxHxWx3.astype(int)
    assert np.abs(video[0] - video[1]).mean() > 20
    assert np.abs(video[:, 0] - video[:, -1]).mean() > 20
    again = synthetic_clips(config, (3, 4)).video_BxTxHxWx3
    np.testing.assert_array_equal(again[0], clips.video_BxTxHxWx3[1])


def test_given_masks_are_disjoint_and_as_many_as_asked_for():
    config = small_config()
    given = synthetic_given(config, ((5, 7), (10, 20)))
    for mask, counts in zip(given.masks, ((5, 7), (10, 20)), strict=True):
        assert (mask.context_BxK.shape[1], mask.target_BxM.shape[1]) == counts
        for context, target in zip(mask.context_BxK, mask.target_BxM, strict=True):
            assert len({*context.tolist(), *target.tolist()}) == sum(counts)


def drawn_state(config, layout):
    """A state of small random numbers: nothing to compile."""
    rng = np.random.default_rng(0)
    shapes = abstract_state(config, layout)
    drawn = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), shapes.params)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return zeros._replace(params=drawn, target=jax.tree.map(jnp.copy, drawn["encoder"]))


@pytest.fixture(scope="module")
def plain():
    return small_config(**PLAIN, **TINY)


@pytest.fixture(scope="module")
def layout(plain):
    return MeshLayout(make_mesh(plain.parallel, jax.devices()[:1]))


@pytest.mark.slow
def test_the_given_step_is_the_training_step_from_the_masks_on(plain, layout):
    """Plain V-JEPA on the clips and masks that the whole step prepares: the parameters change as they do there."""
    batch = random_batch(plain, 2)
    (program,) = mask_programs(plain.mask, plain.grid)
    prepared = jax.jit(lambda b: prepare_shards(b, 0, plain, program, layout, training=True))(batch)
    given = Given(normalise_pixels(prepared.video01_BxTxHxWx3), prepared.masks)
    state = drawn_state(plain, layout)
    quickly = {"xla_backend_optimization_level": 0}
    step = partial(train_step, config=plain, program=program, layout=layout)
    whole, want = jax.jit(step, compiler_options=quickly)(state, batch)
    ours, got = jax.jit(partial(train_on_given, config=plain, layout=layout), compiler_options=quickly)(state, given)
    assert float(got["loss/total"]) == pytest.approx(float(want["loss/total"]), abs=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (state.params, ours.params)), strict=True)]
    assert max(moved) > 1e-4
    for a, b in zip(*map(jax.tree.leaves, (whole.target, ours.target)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_a_timed_step_says_where_the_time_went(layout):
    """Data slower than the device, and the state handed on from step to step."""

    def batches():
        while True:
            time.sleep(0.05)
            yield {"x": np.ones((2, 3), np.float32)}

    def compiled(state, batch):
        state += batch["x"].sum()
        return state, {"loss/total": state}

    step = OurStep(compiled, Compilation(1.0, 0, 0), np.zeros(()), batches(), layout, batch=2)
    times = [step() for _ in range(3)]
    assert all(t.data > 0.05 and min(t.transfer, t.device) > 0 for t in times)
    assert all(t.total == t.data + t.transfer + t.device for t in times)
    assert step.loss == 18
