"""Costs of a step by arithmetic: operations equal XLA's count, bytes kept equal what differentiation asks for."""

from __future__ import annotations

import functools
import math

import jax
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import REMAT_POLICIES, ModelConfig
from surgmotion_jax.models.flops import recomputed_flops
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.objective import RawBatch, loss_and_metrics, prepare
from surgmotion_jax.pretrain.plan.cost import expected_traffic, kept_bytes, step_flops, trunk_bytes
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.state import abstract_state, init_state
from tests.pretrain.fixtures import small_config

FRAMES, SIDE, PATCH = 4, 64, 8  # 2 x 8 x 8 = 128 tokens: whole blocks of splash attention
TOKENS = 128


def encoder_bytes(model, rows):
    """Bytes that the encoder's forward pass hands to its backward pass, for so many clips."""
    shapes = jax.eval_shape(lambda: backbone_of(model).init(jax.random.key(0)))
    clips = jax.ShapeDtypeStruct((rows, FRAMES, SIDE, SIDE, 3), "float32")
    kept = jax.eval_shape(lambda p, v: jax.vjp(lambda q: backbone_of(model).encode(q, v).tokens, p)[1], shapes, clips)
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(kept))


@pytest.mark.parametrize("remat", REMAT_POLICIES)
@pytest.mark.parametrize(("attention", "dtype"), [("xla", "float32"), ("splash", "bfloat16")])
def test_bytes_kept_of_a_stack_are_those_that_differentiation_asks_for(remat, attention, dtype):
    model = ModelConfig(variant="vit_tiny", depth=3, patch=PATCH, remat=remat, attention=attention, dtype=dtype)
    a_clip = encoder_bytes(model, 2) - encoder_bytes(model, 1)  # without weights, of which there is one set
    patches = TOKENS * model.patch_values * (2 if dtype == "bfloat16" else 4)
    assert trunk_bytes(model.encoder, TOKENS) + patches == a_clip


@functools.cache
def gradient_flops(remat):
    """XLA's count of an encoder's gradient, and ours of what is computed again; one block, as a loop counts once."""
    model = ModelConfig(variant="vit_large", depth=1, patch=PATCH, remat=remat, attention="xla", dtype="float32")
    shapes = jax.eval_shape(lambda: backbone_of(model).init(jax.random.key(0)))
    clip = jax.ShapeDtypeStruct((1, 16, 2 * SIDE, 2 * SIDE, 3), "float32")
    gradient = jax.jit(jax.grad(lambda p, v: backbone_of(model).encode(p, v).tokens.sum()))
    return gradient.lower(shapes, clip).cost_analysis()["flops"], recomputed_flops(model.encoder, 16 * TOKENS)


@pytest.mark.parametrize("remat", [policy for policy in REMAT_POLICIES if policy != "none"])
def test_operations_computed_again_are_those_that_xla_counts(remat):
    (found, expected), (nothing, none) = gradient_flops(remat), gradient_flops("none")
    assert none == 0
    assert found - nothing == pytest.approx(expected, abs=0.005 * nothing)


def test_a_fused_kernel_runs_again_unless_its_output_and_sums_are_kept():
    def again(attention, remat):
        model = ModelConfig(variant="vit_large", remat=remat, attention=attention)
        return recomputed_flops(model.encoder, TOKENS)

    kernel = 24 * 4 * TOKENS**2 * 1024
    assert again("splash", "projections") == 0
    assert again("cudnn", "projections") == again("splash", "dots") == kernel
    assert again("cudnn", "attention") - again("splash", "attention") == kernel
    assert again("splash", "full") == again("xla", "full")


def test_operations_of_a_step_equal_xlas_count():
    """Blocks are not scanned over here: one each, whose loop body XLA counts once."""
    config = small_config(
        **{"model.variant": "vit_large", "model.depth": 1, "model.positions": "sincos", "augment.crop": 64},
        **{"model.predictor.width": 768, "model.predictor.heads": 12, "optim.batch": 1, "heldout.batch": 2},
    )
    program = mask_programs(config.mask, config.grid)[0]
    state = jax.eval_shape(lambda: init_state(config))
    batch = RawBatch(
        jax.ShapeDtypeStruct((1, 8, 64, 64, 3), "uint8"),
        jax.ShapeDtypeStruct((1, 8), "bool"),
        jax.ShapeDtypeStruct((1,), "uint32"),
    )
    prepared = jax.eval_shape(
        lambda b: prepare(b, jax.numpy.int32(0), config=config, program=program, training=True), batch
    )
    gradient = jax.jit(jax.grad(lambda *a: loss_and_metrics(*a, config, SINGLE_DEVICE)[0]))
    xla = gradient.lower(state.params, state.target, prepared).cost_analysis()["flops"]
    flops = step_flops(config, [program])
    assert flops.model - flops.prepare == pytest.approx(xla, rel=0.02)


def test_recomputing_keeps_less_and_costs_more():
    none, full = (small_config(**{"model.remat": remat}) for remat in ("none", "full"))
    program = mask_programs(none.mask, none.grid)[0]
    assert kept_bytes(full, program, 4) < kept_bytes(none, program, 4)
    assert step_flops(none, [program]).recomputed == 0
    assert step_flops(full, [program]).recomputed > 0
    assert step_flops(full, [program]).model == step_flops(none, [program]).model


def test_expected_traffic_by_hand():
    config = small_config(
        **{"parallel.data": 2, "parallel.fsdp": 4, "model.remat": "full", "model.variant": "vit_nano"}
    )
    state = abstract_state(config, MeshLayout(make_mesh(config.parallel)))
    gather, scatter, reduce = expected_traffic(config, state, {"data": 2, "fsdp": 4, "tensor": 1})
    encoder, predictor = (sum(x.size for x in jax.tree.leaves(state.params[name])) for name in ("encoder", "predictor"))
    assert gather.bytes == 3 / 4 * 4 * (4 * encoder + 3 * predictor)
    assert scatter.bytes == 3 / 4 * 4 * (encoder + predictor)
    assert reduce.bytes == 4 / 4 * (encoder + predictor), "shards in the computation's dtype, sent 2 x 1/2 times"
