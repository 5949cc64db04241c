"""attention=fused, its kernels' operations run one by one on the CPU: the same function as every other attention."""

from __future__ import annotations

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.attention import attend, check_attention, settled
from surgmotion_jax.models.config import Grid, ModelConfig, PredictorSettings, TransformerConfig
from surgmotion_jax.models.fused_attention import INTERPRETED, Setting, packed_attention, why_not
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.linear import by_groups, from_groups
from surgmotion_jax.models.positions import rotary
from surgmotion_jax.models.transformer import Trunk
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, to_global
from surgmotion_jax.parallel.topology import CHIPS
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.summary import describe_attention
from surgmotion_jax.pretrain.state import create_state
from surgmotion_jax.pretrain.step import compile_train_step
from tests.pretrain.fixtures import random_batch, small_config

STACK = TransformerConfig(256, 2, 4, 64, attention=INTERPRETED)
GRID = Grid(2, 3, 4)
FUSED_STEP = {
    "model.attention": INTERPRETED,
    "model.width": 256,
    "model.heads": 4,
    "model.mlp": 64,
    "model.predictor.width": 256,
    "model.predictor.heads": 8,
    "model.predictor.mlp": 64,
}


def stack(attention, positions, remat="none", layout=SINGLE_DEVICE):
    """Loss and gradients, with respect to parameters and input, of a stack over tokens drawn at random."""
    config = dataclasses.replace(STACK, attention=attention, positions=positions, remat=remat)
    x = jax.random.normal(jax.random.key(0), (8, 10, 256))
    ids = jax.random.randint(jax.random.key(1), (8, 10), 0, GRID.tokens)
    rope = positions.startswith("rope")
    code = rotary(ids, GRID, config.head_dim, interleaved=positions == "rope") if rope else None
    plain = Trunk(dataclasses.replace(config, attention="xla"), SINGLE_DEVICE)
    params = jax.tree.map(
        lambda p: p + 0.05 * jax.random.normal(jax.random.key(2), p.shape),
        nn_unboxed(plain.init(jax.random.key(3), x, code)["params"]),
    )

    def loss(params, x):
        y, _ = Trunk(config, layout).apply({"params": params}, x, code)
        return jnp.square(y).sum()

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)


def nn_unboxed(params):
    import flax.linen as nn

    return nn.meta.unbox(params)


def worst(want, got):
    """Largest difference of any array, by its largest value."""
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max() / (jnp.abs(a).max() + 1e-12)), want, got)
    return max(jax.tree.leaves(differences))


def test_several_heads_of_a_sweep_at_once_are_those_one_by_one():
    """`vmap` over the kernels, forward and backward, as a sweep over probes has it."""
    setting = Setting(64, SINGLE_DEVICE, interpret=True)
    u, bias = jax.random.normal(jax.random.key(0), (3, 2, 5, 384)), jax.random.normal(jax.random.key(1), (3, 384))

    def loss(u_BxNxF, bias_F):
        return jnp.square(packed_attention(u_BxNxF, bias_F, None, setting)).sum()

    gradient = jax.value_and_grad(loss, argnums=(0, 1))
    together = jax.jit(jax.vmap(gradient))(u, bias)
    single = [jax.jit(gradient)(u[i], bias[i]) for i in range(3)]
    assert worst(jax.tree.map(lambda *x: jnp.stack(x), *single), together) < 1e-6


@pytest.mark.parametrize(
    ("positions", "remat"),
    [
        ("rope_tiled", "none"),
        pytest.param("rope", "attention", marks=pytest.mark.slow),
        pytest.param("none", "full", marks=pytest.mark.slow),
        pytest.param("rope", "projections", marks=pytest.mark.slow),
    ],
)
def test_a_stack_is_the_same_function(positions, remat):
    assert worst(stack("xla", positions), stack(INTERPRETED, positions, remat)) < 1e-5


@pytest.mark.parametrize("shape", [(2, 2, 2), pytest.param((1, 8, 1), marks=pytest.mark.slow)], ids=str)
def test_a_sharded_stack_is_the_same_function(shape):
    layout = MeshLayout(make_mesh(ParallelConfig(*shape), jax.devices()))
    assert worst(stack("xla", "rope_tiled"), stack(INTERPRETED, "rope_tiled", "full", layout)) < 1e-5


def losses(shape=(1, 1, 1), **overrides):
    config = small_config(**FUSED_STEP | overrides)
    layout = MeshLayout(make_mesh(ParallelConfig(*shape), jax.devices()[: math.prod(shape)]))
    step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    state, found = create_state(config, layout), []
    for i in range(2):
        state, metrics = step(state, to_global(layout, random_batch(config, 8, seed=i), 8))
        found.append([float(metrics["loss/total"]), float(metrics["optim/grad_norm"])])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 2), (1, 8, 1)], ids=str)
def test_a_training_step_is_the_same(shape):
    plain = losses(**{"model.attention": "xla"})
    assert plain[0] != plain[1]
    np.testing.assert_allclose(losses(shape), plain, rtol=1e-5)


def test_kernels_by_groups_and_back():
    kernel = np.arange(2 * 3 * 4).reshape(2, 12)
    assert by_groups(jnp.asarray(kernel), 2)[0].tolist() == [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]
    for axes, shape in ((("embed", None), (2, 12)), (("embed", None, "heads"), (2, 3, 4))):
        parted = jnp.asarray(kernel.reshape(shape))
        np.testing.assert_array_equal(from_groups(by_groups(parted, 2), axes, 2), parted)


@pytest.mark.parametrize(
    ("c", "tokens", "parts", "message"),
    [
        (TransformerConfig(1408, 1, 16, 64), 392, 1, "heads of 88 are not of 32, 64, 128"),
        (TransformerConfig(192, 1, 3, 64), 392, 1, "3 heads of 64 are no whole groups of 2"),
        (TransformerConfig(384, 1, 12, 64), 392, 2, "3 groups of heads are not divisible by 2 devices"),
        (TransformerConfig(1024, 1, 16, 64), 18432, 1, r"18432 tokens need \d+ MiB of a core that has 126"),
        (TransformerConfig(1024, 1, 16, 64, dtype="bfloat16"), 8192, 8, "^$"),
    ],
)
def test_where_the_kernels_do_not_apply(c, tokens, parts, message):

    assert re.search(message, why_not(c, tokens, parts, CHIPS["v5e"].vmem_bytes))


def test_what_takes_their_place():
    narrow = TransformerConfig(192, 1, 3, 64, attention="fused")
    assert settled(narrow, 10, SINGLE_DEVICE).attention == "splash"
    assert settled(dataclasses.replace(narrow, attention=INTERPRETED), 10, SINGLE_DEVICE).attention == "xla"
    whole = dataclasses.replace(STACK, attention="fused")
    assert settled(whole, 10, SINGLE_DEVICE) is whole
    assert settled(whole, 10, SINGLE_DEVICE, masked=True).attention == "xla"


def test_the_banner_says_where_another_attention_is_used():
    layout = MeshLayout(make_mesh(ParallelConfig(2, 2, 2), jax.devices()))
    config = small_config(**FUSED_STEP)
    programs = mask_programs(config.mask, config.grid)
    assert describe_attention(config, layout, programs) == INTERPRETED
    config = small_config(**FUSED_STEP | {"model.predictor.width": 128, "model.predictor.heads": 4})
    said = describe_attention(config, layout, programs)
    assert said.startswith(f"{INTERPRETED}, but xla over ")
    assert "tokens of the predictor (1 groups of heads are not divisible by 2 devices)" in said


def test_fused_attention_needs_a_tpu_and_packed_projections():
    with pytest.raises(ValueError, match="'fused', which needs a TPU"):
        check_attention("fused", "cpu", "float32")
    check_attention(INTERPRETED, "cpu", "float32")
    q = jnp.zeros((1, 2, 1, 4))
    with pytest.raises(ValueError, match="'fused' takes packed projections"):
        attend(q, q, q, implementation="fused", layout=SINGLE_DEVICE)


def test_model_config_takes_fused():
    assert ModelConfig(attention="fused", predictor=PredictorSettings()).encoder.attention == "fused"
