"""Laws of the model code that need no fixture."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.attention import attend, check_attention, splash_kernel
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid, ModelConfig, PredictorSettings, TransformerConfig
from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.positions import apply_rotary, rotary, sincos_table

SMALL = ModelConfig(
    variant="vit_nano", depth=2, patch=8, dtype="float32", remat="none", predictor=PredictorSettings(48, 1, 3)
)


def count(tree):
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("vit_tiny", 5_633_856),
        ("vit_small", 21_884_544),
        ("vit_base", 86_236_416),
        ("vit_large", 303_885_312),
        ("vit_huge", 631_648_000),
        ("vit_giant", 1_012_173_952),
        ("vit_giant_xformers", 1_012_173_952),
        ("vit_gigantic_xformers", 1_843_923_840),
    ],
)
def test_parameter_counts_of_the_vit_table(variant, parameters):
    config = ModelConfig(variant=variant)
    assert count(jax.eval_shape(lambda: backbone_of(config).init(jax.random.key(0)))) == parameters


@pytest.mark.parametrize(
    ("variant", "parameters"), [("vit_large", 22_086_016), ("vit_huge", 22_282_880), ("vit_giant", 22_381_312)]
)
def test_parameter_counts_of_the_predictor(variant, parameters):
    config = ModelConfig(variant=variant)
    assert count(jax.eval_shape(lambda: backbone_of(config).predictor.init(jax.random.key(0)))) == parameters


def test_axis_names_match_the_parameters():
    backbone = backbone_of(SMALL)
    for network in (backbone, backbone.predictor):
        shapes, axes = jax.eval_shape(network.init, jax.random.key(0)), network.axes()
        jax.tree.map(lambda x, names: x.shape[len(names)] if len(names) != x.ndim else None, shapes, axes)
        assert jax.tree.structure(shapes) == jax.tree.structure(axes, is_leaf=lambda x: isinstance(x, tuple))


def test_residual_branches_start_smaller_with_depth():
    blocks = backbone_of(ModelConfig(variant="vit_tiny")).init(jax.random.key(0))["trunk"]["blocks"]
    for kernel in (blocks["attn"]["proj"]["kernel"], blocks["mlp"]["fc2"]["kernel"]):
        std = np.asarray(kernel).reshape(12, -1).std(1)
        np.testing.assert_allclose(std, 0.02 / np.sqrt(2 * np.arange(1, 13)), rtol=0.03)
    np.testing.assert_allclose(np.asarray(blocks["mlp"]["fc1"]["kernel"]).std(), 0.02, rtol=0.03)


@pytest.fixture(scope="module")
def params():
    return backbone_of(SMALL).init(jax.random.key(0))


@pytest.fixture(scope="module")
def video():
    return jax.random.normal(jax.random.key(1), (2, 4, 24, 32, 3))


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_rematerialisation_changes_nothing(params, video, remat):
    config = ModelConfig(**{**vars(SMALL), "remat": remat})

    def loss(p, c):
        tokens = backbone_of(c).encode(p, video).tokens
        # Not the sum of squares: normalised tokens have that fixed, and its gradient is rounding noise.
        return (tokens * jax.random.normal(jax.random.key(3), tokens.shape)).sum()

    plain, again = jax.grad(loss)(params, SMALL), jax.grad(loss)(params, config)
    # Recomputed blocks are fused differently: single entries differ by rounding, whole leaves hardly.
    errors = jax.tree.map(lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(a), plain, again)
    assert max(jax.tree.leaves(errors)) < 1e-5, errors
    assert "remat" in str(jax.make_jaxpr(lambda p: jax.grad(loss)(p, config))(params)) or "checkpoint" in str(
        jax.make_jaxpr(lambda p: jax.grad(loss)(p, config))(params)
    )


def test_patches_can_be_given_instead_of_a_clip(params, video):
    ids = jnp.array([[3, 0, 11], [5, 6, 2]])
    whole = backbone_of(SMALL).encode(params, video, ids).tokens
    patches = jnp.take_along_axis(patchify(video, 8, 2), ids[..., None], axis=1)
    given = backbone_of(SMALL).encode(params, patches, ids, grid=Grid(2, 3, 4)).tokens
    np.testing.assert_allclose(given, whole, atol=1e-5)
    with pytest.raises(ValueError, match="without a grid, or without ids"):
        backbone_of(SMALL).encode(params, patches, ids)
    with pytest.raises(ValueError, match="distinct block numbers in 0..1"):
        backbone_of(SMALL).encode(params, video, layers=(2,))


def test_bfloat16_stays_close_and_returns_float32(params, video):
    config = ModelConfig(**{**vars(SMALL), "dtype": "bfloat16"})
    low, high = backbone_of(config).encode(params, video).tokens, backbone_of(SMALL).encode(params, video).tokens
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - high).max() < 0.1


@pytest.mark.parametrize(
    "positions",
    [
        "rope",
        "sincos",
        pytest.param("rope_tiled", marks=pytest.mark.slow),
        pytest.param("sincos_uniform", marks=pytest.mark.slow),
    ],
)
def test_positions_reach_encoder_and_predictor(params, video, positions):
    config = ModelConfig(**{**vars(SMALL), "positions": positions})
    backwards = jnp.arange(24)[None, ::-1]
    there = backbone_of(config).encode(params, video, backwards.repeat(2, 0)).tokens[:, ::-1]
    np.testing.assert_allclose(there, backbone_of(config).encode(params, video).tokens, atol=2e-5)
    shuffled = backbone_of(config).encode(params, patchify(video, 8, 2), backwards, grid=Grid(2, 3, 4)).tokens
    assert np.abs(shuffled - backbone_of(config).encode(params, video).tokens).max() > 1e-3
    settings = PredictorSettings(48, 1, 3, zero_init=False)  # zero tokens have zero queries: blind in the first block
    config = ModelConfig(**{**vars(config), "predictor": settings})
    predictor = backbone_of(config).predictor.init(jax.random.key(2))
    context, ids = jnp.ones((1, 2, 192)), jnp.array([[0, 1]])
    out = backbone_of(config).predictor.predict(predictor, context, ids, jnp.array([[5, 6, 23]]), grid=Grid(2, 3, 4))
    assert np.abs(out[0, 0] - out[0, 2]).max() > 1e-6


def test_interleaved_rotary_is_a_rotation_and_the_tiled_form_is_not():
    x = jax.random.normal(jax.random.key(0), (1, 10, 2, 64))
    norms = {}
    for interleaved in (True, False):
        code = rotary(jnp.arange(10)[None] * 7, Grid(4, 4, 4), 64, interleaved=interleaved)
        norms[interleaved] = np.abs(np.linalg.norm(apply_rotary(x, code), axis=-1) / np.linalg.norm(x, axis=-1) - 1)
    assert norms[True].max() < 1e-6
    assert norms[False].max() > 0.01


def test_sincos_table_has_unit_pairs():
    table = sincos_table(Grid(2, 3, 4), 24, uniform=False)
    assert table.shape == (24, 24)
    np.testing.assert_allclose(np.square(table).sum(1), 12, rtol=1e-5)
    assert sincos_table(Grid(2, 3, 4), 32, uniform=True).shape == (24, 32)


@pytest.mark.parametrize(("name", "platform"), [("cudnn", "cpu"), ("splash", "gpu"), ("cudnn", "tpu")])
def test_unavailable_attention_is_an_error(name, platform):
    with pytest.raises(ValueError, match=f"model.attention is '{name}', which needs a .* set --config.model.attention"):
        check_attention(name, platform, "bfloat16")
    with pytest.raises(ValueError, match="cudnn.* bfloat16 only"):
        check_attention("cudnn", "gpu", "float32")
    with pytest.raises(ValueError, match="Did you mean 'splash'"):
        check_attention("splsh", "tpu", "bfloat16")


def test_splash_equals_the_reference_in_interpret_mode():
    q, k, v = (jax.random.normal(key, (1, 200, 2, 64)) for key in jax.random.split(jax.random.key(0), 3))
    want = attend(q, k, v, implementation="xla", layout=SINGLE_DEVICE)
    np.testing.assert_allclose(splash_kernel(q, k, v, interpret=True), want, atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "vit_larg"}, "Did you mean 'vit_large'"),
        ({"positions": "rop"}, "Did you mean 'rope'"),
        ({"remat": "some"}, "remat is 'some'"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(fields, message):
    with pytest.raises(ValueError, match=message):
        _ = ModelConfig(**fields).encoder


def test_head_dimensions_that_cannot_rotate_are_refused():
    with pytest.raises(ValueError, match="head dimension 4 .* too small for 3-D RoPE"):
        TransformerConfig(width=12, depth=1, heads=3, mlp=48)
    with pytest.raises(ValueError, match="not divisible by 5 heads"):
        TransformerConfig(width=12, depth=1, heads=5, mlp=48)
    TransformerConfig(width=12, depth=1, heads=3, mlp=48, positions="sincos")
    with pytest.raises(ValueError, match=r"mask_index is 3; it must lie in 0..2"):
        PredictorSettings(mask_tokens=3, mask_index=3)


def test_a_backbone_without_an_entry_is_refused():
    with pytest.raises(ValueError, match=r"model.backbone is 'vitt'.* Did you mean 'vit'"):
        backbone_of(ModelConfig(backbone="vitt"))


def test_auto_attention_is_the_default_and_is_resolved_where_devices_are_known(params):
    auto, named = (dataclasses.replace(SMALL, attention=name) for name in ("auto", "xla"))
    assert ModelConfig().attention == "auto"
    assert architecture(auto) == architecture(named), "a checkpoint does not depend on it"
    video = jax.random.normal(jax.random.key(1), (1, 4, 24, 32, 3))
    tokens = [backbone_of(model).encode(params, video).tokens for model in (auto, named)]
    np.testing.assert_array_equal(*tokens)
