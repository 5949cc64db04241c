"""Optimisers by name: another one is an entry, and all else follows; Muon moves the matrices of each layer alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from surgmotion_jax.optim.kinds import MUON_BETA, MUON_RMS, OPTIMIZERS
from surgmotion_jax.optim.ownership import map_owned
from surgmotion_jax.optim.rates import step
from surgmotion_jax.parallel.mesh import to_global
from surgmotion_jax.pretrain.config import OptimConfig
from surgmotion_jax.pretrain.optimizer import make_optimizer
from surgmotion_jax.pretrain.plan.plan import offloaded_bytes
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.summary import bytes_per_device
from surgmotion_jax.pretrain.state import abstract_state, create_state
from surgmotion_jax.pretrain.step import compile_train_step
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import random_batch, small_config

TINY = {"model.variant": "vit_nano", "model.depth": 1, "data.frames": 4}


# ---- an optimiser from outside ----


def sgd(config):
    """The whole of it: one of optax's, of rate 1 and without decay."""
    return optax.sgd(1.0, momentum=config.beta1)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "sgd", sgd)
    return small_config(**TINY, **{"optim.kind": "sgd"})


def two_steps(config, layout):
    """Losses, and the velocity of a kernel after them."""
    compiled = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    state, losses = create_state(config, layout), []
    for number in range(2):
        state, metrics = compiled(state, to_global(layout, random_batch(config, 8, seed=number), 8))
        losses.append(float(metrics["loss/total"]))
    return losses, optax.tree.get(state.opt_state, "trace")["encoder"]["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]


def test_an_optimiser_from_outside_trains_sharded_as_on_one_device(config):
    (losses, alone), (shared, split) = (two_steps(config, layout_of(1, parts, 1)) for parts in (1, 2))
    np.testing.assert_allclose(shared, losses, rtol=1e-5)
    np.testing.assert_allclose(split, alone, rtol=0, atol=1e-5 * float(np.abs(alone).max()))
    assert np.abs(alone).max() > 0, "it must train"
    assert split.addressable_shards[0].data.size == split.size // 2, "its state must be split as the parameters are"


def test_the_plan_counts_what_an_optimiser_from_outside_keeps(config):
    """Momentum takes as much as the parameters, AdamW twice that and a counter."""
    layout = layout_of(1, 2, 1)
    momentum, adam = abstract_state(config, layout), abstract_state(small_config(**TINY), layout)
    assert bytes_per_device(momentum.opt_state) == bytes_per_device(momentum.params)
    assert bytes_per_device(adam.opt_state) == 2 * bytes_per_device(adam.params) + 4
    away = small_config(**TINY, **{"optim.kind": "sgd", "optim.offload": True})
    assert offloaded_bytes(away, momentum) == bytes_per_device(momentum.params)


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="optim.kind is 'adam'; it must be one of adamw, muon. Did you mean 'adamw'"):
        OptimConfig(kind="adam")


# ---- whose leaf is it? ----


def test_a_leaf_belongs_to_the_parameter_whose_path_it_ends_with():
    params = {"a": {"kernel": np.zeros((2, 3))}, "kernel": np.zeros(3)}
    state = (
        np.zeros(()),
        {"mu": params},
        {"a": {"kernel": np.zeros(2)}},
        {"muon": {"a": {"kernel": np.zeros((2, 3))}}},
    )
    found = map_owned(lambda leaf, parameter: parameter.shape, lambda leaf: "none", state, params)
    assert found[0] == "none"
    assert found[1] == {"mu": {"a": {"kernel": (2, 3)}, "kernel": (3,)}}
    assert found[2] == {"a": {"kernel": "none"}}, "a factored moment has another shape"
    assert found[3] == {"muon": {"a": {"kernel": (2, 3)}}}, "where the rest is masked out"
    assert map_owned(lambda leaf, _: "its", lambda leaf: "none", np.zeros(3), np.ones(3)) == "its"


# ---- Muon ----

WIDTH = 12


def stacked_params(layers=3, seed=0):
    """Shapes of a trunk with 2 heads of 6, and what stands around it."""
    shapes = {
        "trunk": {
            "blocks": {
                "attn": {
                    "qkv": {"kernel": (layers, WIDTH, 3, 2, 6), "bias": (layers, 3, 2, 6)},
                    "proj": {"kernel": (layers, 2, 6, WIDTH)},
                },
                "mlp": {"fc1": {"kernel": (layers, WIDTH, 24)}},
                "norm1": {"scale": (layers, WIDTH)},
            }
        },
        "patch_embed": {"kernel": (30, WIDTH)},
        "mask_tokens": (2, WIDTH),
    }
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def moved(config, params, grads):
    """Change of the parameters by one update of rate 1 without decay."""
    optimizer = make_optimizer(config)
    after, state = step(optimizer, grads, optimizer.init(params), params, jnp.ones(()), jnp.zeros(()))
    return jax.tree.map(lambda new, old: new - old, after, params), state


MUON = OptimConfig(kind="muon")


def flat_matrices(blocks, layer):
    """The matrices of a layer, [inputs, outputs]."""
    qkv = blocks["attn"]["qkv"]["kernel"][layer]
    parts = {f"qkv{i}": qkv[:, i].reshape(WIDTH, WIDTH) for i in range(3)}
    proj = blocks["attn"]["proj"]["kernel"][layer].reshape(WIDTH, WIDTH)
    return parts | {"proj": proj, "fc1": blocks["mlp"]["fc1"]["kernel"][layer]}


def test_muon_moves_every_matrix_of_every_layer_as_if_it_were_alone():
    params, grads = stacked_params(), stacked_params(seed=1)
    change, _ = moved(MUON, params, grads)
    alone = optax.contrib.muon(1.0, beta=MUON_BETA, eps=MUON.eps, consistent_rms=MUON_RMS)
    for layer in range(3):
        single = flat_matrices(grads["trunk"]["blocks"], layer)
        wanted, _ = alone.update(single, alone.init(single), single)
        found = flat_matrices(change["trunk"]["blocks"], layer)
        for name, matrix in wanted.items():
            np.testing.assert_allclose(found[name], matrix, rtol=0, atol=1e-5, err_msg=f"{name} of layer {layer}")
            values = np.linalg.svd(matrix, compute_uv=False) / (MUON_RMS * max(matrix.shape) ** 0.5)
            assert values.min() > 0.3, "nearly orthogonal: no direction is left behind"
            assert values.max() < 1.5


def test_muon_leaves_all_else_to_adam():
    params, grads = stacked_params(), stacked_params(seed=1)
    (change, _), (adam, _) = moved(MUON, params, grads), moved(OptimConfig(), params, grads)
    for tree in (change, adam):
        del tree["trunk"]["blocks"]["mlp"], tree["trunk"]["blocks"]["attn"]["proj"]
        del tree["trunk"]["blocks"]["attn"]["qkv"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, change, adam)
    assert len(jax.tree.leaves(change)) == 4


def test_muon_in_bfloat16_rounds_what_it_keeps_and_not_its_constants():
    params = stacked_params()
    _, state = moved(OptimConfig(kind="muon", moments_dtype="bfloat16"), params, stacked_params(seed=1))
    owned = jax.tree.leaves(map_owned(lambda leaf, _: leaf, lambda _: None, state, params))
    rest = jax.tree.leaves(map_owned(lambda _, __: None, lambda leaf: leaf, state, params))
    assert {leaf.dtype.name for leaf in owned} == {"bfloat16"}
    assert len(owned) == 3 + 2 * 4
    assert {leaf.dtype.name for leaf in rest} == {"int32", "float32"}


# ---- what all kinds share ----


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_decay_spares_biases_scales_and_unused_tokens(kind):
    params = stacked_params()
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["mask_tokens"] = grads["mask_tokens"].at[0].set(1.0)
    optimizer = make_optimizer(OptimConfig(kind=kind))
    after, _ = step(optimizer, grads, optimizer.init(params), params, jnp.asarray(1e-3), jnp.asarray(0.5))
    blocks, new = params["trunk"]["blocks"], after["trunk"]["blocks"]
    np.testing.assert_array_equal(new["norm1"]["scale"], blocks["norm1"]["scale"])
    np.testing.assert_array_equal(new["attn"]["qkv"]["bias"], blocks["attn"]["qkv"]["bias"])
    np.testing.assert_array_equal(after["mask_tokens"][1], params["mask_tokens"][1])
    used = params["mask_tokens"][0]
    np.testing.assert_allclose(after["mask_tokens"][0], used * (1 - 5e-4) - 1e-3, rtol=0, atol=1e-6)
    kernel = blocks["mlp"]["fc1"]["kernel"]
    np.testing.assert_allclose(new["mlp"]["fc1"]["kernel"], kernel * (1 - 5e-4), rtol=0, atol=1e-6)


def test_clipping_keeps_the_direction_and_zero_means_none():
    params = {"kernel": jnp.zeros(2)}
    grads = {"kernel": jnp.array([30.0, 40.0])}

    def velocity(clip):
        optimizer = make_optimizer(OptimConfig(clip=clip))
        _, state = step(optimizer, grads, optimizer.init(params), params, jnp.ones(()), jnp.zeros(()))
        return optax.tree.get(state, "mu")["kernel"] / (1 - OptimConfig().beta1)

    np.testing.assert_allclose(velocity(1.0), [0.6, 0.8], rtol=1e-5)
    np.testing.assert_allclose(velocity(0.0), [30, 40], rtol=1e-5)
    np.testing.assert_allclose(velocity(100.0), [30, 40], rtol=1e-5)
