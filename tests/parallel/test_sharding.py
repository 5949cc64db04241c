"""Sharded training equals single-device training; masks and saliency need no communication."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, check_batch, make_mesh, mesh_shape, process_rows, to_global
from surgmotion_jax.parallel.rules import parameter_sharding
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.state import abstract_state, create_state
from surgmotion_jax.pretrain.step import abstract_batch, compile_train_step, prepare_shards
from tests.pretrain.fixtures import random_batch, small_config

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def layout_of(*shape):
    return MeshLayout(make_mesh(ParallelConfig(*shape), jax.devices()[: int(np.prod(shape))]))


def five_losses(config, layout):
    program = mask_programs(config.mask, config.grid)[0]
    step, state = compile_train_step(config, program, layout), create_state(config, layout)
    losses = []
    for i in range(5):
        state, metrics = step(state, to_global(layout, random_batch(config, 8, seed=i), 8))
        losses.append(float(metrics["loss/total"]))
    return losses, state


@pytest.fixture(scope="module")
def config():
    return small_config()


@pytest.fixture(scope="module")
def single(config):
    return five_losses(config, layout_of(1, 1, 1))


@pytest.mark.parametrize(
    "shape",
    [pytest.param((8, 1, 1), marks=pytest.mark.slow), pytest.param((1, 8, 1), marks=pytest.mark.slow), (2, 2, 2)],
    ids=str,
)
def test_five_steps_equal_one_device(config, single, shape):
    losses, state = five_losses(config, layout_of(*shape))
    assert len({round(x, 4) for x in losses}) == 5, "the losses must move"
    np.testing.assert_allclose(losses, single[0], rtol=1e-5)
    kernel = state.params["encoder"]["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]
    parts = shape[1] * shape[2]
    assert kernel.addressable_shards[0].data.size == kernel.size // parts, "the kernel must really be split"


@pytest.mark.slow
def test_micro_batches_give_the_same_gradient(config, single):
    """Without SFDR, whose statistics are those of a micro-batch, accumulation changes nothing."""
    plain = {"loss.diversity.weight": 0.0}
    whole, _ = five_losses(small_config(**plain), layout_of(2, 1, 1))
    parts, _ = five_losses(small_config(**plain, **{"optim.accumulate": 4}), layout_of(2, 1, 1))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    assert not np.allclose(whole, single[0], rtol=1e-3), "SFDR must matter in the run it was removed from"


@pytest.mark.parametrize("kind", ["tube", "multiblock", "motion"])
def test_masks_and_saliency_contain_no_collective(kind):
    config = small_config(**{"mask.kind": kind, "loss.motion.scope": "topk", "loss.motion.top_k": 2})
    layout = layout_of(4, 2, 1)
    program = mask_programs(config.mask, config.grid)[0]

    def prepare(batch, step):
        return prepare_shards(batch, step, config, program, layout, training=True)

    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=layout.replicated)
    text = jax.jit(prepare).lower(abstract_batch(config, layout, 8), step).compile().as_text()
    assert not [c for c in COLLECTIVES if c in text]
    reduced = jax.jit(lambda b, s: prepare(b, s).score_BxU.sum())
    text = reduced.lower(abstract_batch(config, layout, 8), step).compile().as_text()
    assert "all-reduce" in text, "a sum over the batch must show up, or the search finds nothing"


def test_sample_ids_decide_masks_whatever_the_mesh(config):
    program = mask_programs(config.mask, config.grid)[0]
    seen = []
    for shape in [(1, 1, 1), (4, 2, 1)]:
        layout = layout_of(*shape)
        batch = to_global(layout, random_batch(config, 8), 8)
        prepared = jax.jit(lambda b, lay=layout: prepare_shards(b, jnp.int32(3), config, program, lay, training=True))(
            batch
        )
        seen.append(jax.device_get(prepared))
    np.testing.assert_array_equal(seen[0].masks[0].target_BxM, seen[1].masks[0].target_BxM)
    np.testing.assert_allclose(seen[0].video01_BxTxHxWx3, seen[1].video01_BxTxHxWx3, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "devices", "shape"), [((-1, 1, 1), 8, (8, 1, 1)), ((2, -1, 2), 8, (2, 2, 2)), ((1, 1, 1), 1, (1, 1, 1))]
)
def test_mesh_shape(sizes, devices, shape):
    assert mesh_shape(ParallelConfig(*sizes), devices) == shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 1, -1), "8 devices are not divisible by 3"),
        ((2, 2, 1), "makes 4 devices, but there are 8"),
        ((-1, -1, 1), "at most one may be -1"),
        ((0, 1, 1), "sizes are positive"),
    ],
)
def test_bad_meshes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        mesh_shape(ParallelConfig(*sizes), 8)


def test_a_dimension_that_does_not_divide_names_parameter_size_and_axis():
    mesh = layout_of(1, 8, 1).mesh
    with pytest.raises(ValueError, match=r"encoder/x/kernel: dimension 0 \('embed'\) of size 100 .* of size 8"):
        parameter_sharding(mesh, "encoder/x/kernel", (100, 4), ("embed", None))
    with pytest.raises(ValueError, match="dimensions 0 and 1 .* both map to mesh axis 'fsdp'"):
        parameter_sharding(mesh, "encoder/x/kernel", (8, 8), ("embed", "embed"))
    with pytest.raises(ValueError, match=r"\['widht'\].* have no rule"):
        parameter_sharding(mesh, "encoder/x/kernel", (8,), ("widht",))


def test_a_model_that_does_not_fit_the_mesh_is_refused_before_compilation():
    with pytest.raises(ValueError, match="encoder has 6 heads, not divisible by parallel.tensor 8"):
        check(small_config(), layout_of(1, 1, 8))
    with pytest.raises(ValueError, match=r"optim.batch 4 is not divisible by 8"):
        check(small_config(**{"optim.batch": 4}), layout_of(8, 1, 1))
    with pytest.raises(ValueError, match="micro-batches 2"):
        check_batch("optim.batch", 8, layout_of(8, 1, 1), accumulate=2)


def test_every_parameter_has_a_sharding_and_rows_cover_the_batch(config):
    layout = layout_of(2, 2, 2)
    assert all(x.sharding is not None for x in jax.tree.leaves(abstract_state(config, layout)))
    assert process_rows(layout, 8) == (0, 8)
