"""Numerical parity with V-JEPA 2.1's PyTorch modules, from stored fixtures (float32)."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid, ModelConfig, PredictorSettings, V21Settings
from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.models.positions import (
    distance_to_targets,
    scaled_coordinates,
    segment_angles,
    token_coordinates,
)
from surgmotion_jax.models.reference_names import encoder_from_facebook, predictor_from_facebook
from surgmotion_jax.models.vjepa21 import level_blocks, output_blocks

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = ModelConfig(
    depth=12,
    width=24,
    heads=2,
    mlp=48,
    positions="rope",
    dtype="float32",
    remat="none",
    predictor=PredictorSettings(width=24, depth=4, heads=2, mlp=48, mask_tokens=2),
    v21=V21Settings(levels=4, rope_grid=16, modality=True, context_projection=True),
)
GRID = Grid(4, 2, 2)


@partial(jax.jit, static_argnums=0, static_argnames=("grid", "layers", "levels"))
def encode(config, params, *inputs, **options):
    return backbone_of(config).encode(params, *inputs, **options)


@partial(jax.jit, static_argnums=0, static_argnames=("grid", "image"))
def predict(config, params, *inputs, **options):
    return backbone_of(config).predictor.predict(params, *inputs, **options)


@partial(jax.jit, static_argnums=0, static_argnames=("grid",))
def predict_all(config, params, *inputs, **options):
    return backbone_of(config).predictor.predict_all(params, *inputs, **options)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "vjepa21_fb.npz")


@pytest.fixture(scope="module")
def params(golden):
    weights = {k.removeprefix("w/"): golden[k] for k in golden.files if k.startswith("w/")}
    return {
        "encoder": encoder_from_facebook(weights, 2, "encoder."),
        "predictor": predictor_from_facebook(weights, 2, "predictor."),
    }


def channels_last(pixels_Bx3xTxHxW):
    return jnp.asarray(pixels_Bx3xTxHxW.transpose(0, 2, 3, 4, 1))


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=2e-5)


def test_fixture_matches_this_architecture(golden):
    encoder, predictor = (json.loads(str(golden[f"{part}_kwargs"])) for part in ("enc", "pred"))
    assert (encoder["embed_dim"], encoder["depth"], encoder["num_heads"], encoder["mlp_ratio"]) == (24, 12, 2, 2.0)
    assert encoder["interpolate_rope"]
    assert (predictor["depth"], predictor["num_mask_tokens"], predictor["return_all_tokens"]) == (4, 2, True)


@pytest.mark.parametrize("clip", ["video", "video_nonsq", "image"])
def test_encoder(golden, params, clip):
    close(encode(MODEL, params["encoder"], channels_last(golden[clip])).tokens, golden[f"{clip}_out"])


def test_levels_of_a_whole_clip(golden, params):
    video = channels_last(golden["video"])
    out = encode(MODEL, params["encoder"], video, levels=True, layers=(11, 2))
    close(out.tokens, golden["video_hier"])
    close(out.layers[0], golden["video_out"])
    close(out.layers[1], golden["video_hier"][..., :24])


def test_levels_of_visible_tokens(golden, params):
    out = encode(MODEL, params["encoder"], channels_last(golden["video"]), jnp.asarray(golden["ctx"]), levels=True)
    close(out.tokens, golden["enc_masked_hier"])


def test_predictions_of_masked_and_of_visible_tokens(golden, params):
    inputs = (jnp.asarray(golden[k]) for k in ("enc_masked_hier", "ctx", "tgt"))
    out = predict_all(MODEL, params["predictor"], *inputs, grid=GRID)
    close(out.targets, golden["pred"])
    close(out.context, golden["pred_ctx"])


def test_modality_and_scaling_matter_to_this_fixture(golden, params):
    inputs = [jnp.asarray(golden[k]) for k in ("enc_masked_hier", "ctx", "tgt")]
    as_image = predict(MODEL, params["predictor"], *inputs, grid=GRID, image=True)
    unscaled = dataclasses.replace(MODEL, v21=dataclasses.replace(MODEL.v21, rope_grid=0))
    for other in (as_image, predict(unscaled, params["predictor"], *inputs, grid=GRID)):
        assert np.abs(other - golden["pred"]).max() > 1e-3
    tiled = dataclasses.replace(MODEL, positions="rope_tiled")
    video = channels_last(golden["video"])
    assert np.abs(encode(tiled, params["encoder"], video).tokens - golden["video_out"]).max() > 1e-3


def test_rotary_segment(golden):
    q, width = golden["rope_q"], golden["rope_q"].shape[-1]
    angle = np.asarray(segment_angles(jnp.asarray(golden["rope_pos"]), width, interleaved=True))
    partner = np.stack([-q[..., 1::2], q[..., ::2]], axis=-1).reshape(q.shape)
    close(q * np.cos(angle) + partner * np.sin(angle), golden["rope_out"])


def test_distances_to_the_targets(golden):
    context, target = jnp.asarray(golden["ctx"]), jnp.asarray(golden["tgt"])
    close(jnp.sqrt(distance_to_targets(context, target, GRID)), golden["dist_weights"])


def test_scaled_positions_reach_the_grid_they_are_scaled_to():
    ids, grid = jnp.arange(15)[None], Grid(1, 3, 5)
    _, row, column = scaled_coordinates(ids, grid, 16)
    assert (float(row.max()), float(column.max())) == (15, 15)
    one_row = scaled_coordinates(jnp.arange(5)[None], Grid(1, 1, 5), 16)
    assert float(one_row[1].max()) == 0, "a single row stays at 0"
    np.testing.assert_allclose(scaled_coordinates(ids, Grid(1, 3, 5), 5)[2], token_coordinates(ids, grid)[2])


def test_fresh_parameters_have_the_tree_of_converted_ones(params):
    backbone = backbone_of(MODEL)
    for network, part in ((backbone, "encoder"), (backbone.predictor, "predictor")):
        fresh = jax.eval_shape(network.init, jax.random.key(0))
        shapes = [jax.tree.map(lambda x: x.shape, tree) for tree in (fresh, params[part])]
        assert shapes[0] == shapes[1]
        names = network.axes()
        is_names = {"is_leaf": lambda x: isinstance(x, tuple)}
        assert jax.tree.structure(fresh) == jax.tree.structure(names, **is_names)
        assert [x.ndim for x in jax.tree.leaves(fresh)] == [len(n) for n in jax.tree.leaves(names, **is_names)]


@pytest.mark.parametrize(
    ("variant", "blocks"),
    [
        ("vit_base", (2, 5, 8, 11)),
        ("vit_large", (5, 11, 17, 23)),
        ("vit_giant_xformers", (9, 19, 29, 39)),
        ("vit_gigantic_xformers", (11, 23, 37, 47)),
        ("vit_nano", (0, 1, 2, 3)),
    ],
)
def test_levels_lie_where_the_releases_have_them(variant, blocks):
    model = ModelConfig(variant=variant, v21=V21Settings(levels=4))
    assert level_blocks(model) == output_blocks(model) == blocks
    distilled = ModelConfig(variant=variant, v21=V21Settings(levels=4, output_levels=1, target_width=1664))
    assert output_blocks(distilled) == blocks[-1:]
    assert (distilled.context_width, distilled.target_width) == (distilled.encoder.width, 1664)


def test_a_distilled_model_trains_on_its_last_level(golden, params):
    distilled = dataclasses.replace(MODEL, v21=dataclasses.replace(MODEL.v21, output_levels=1, target_width=40))
    close(encode(distilled, params["encoder"], channels_last(golden["video"]), levels=True).tokens, golden["video_out"])

    def fresh(context):
        predictor = backbone_of(distilled).predictor.init(jax.random.key(0))
        ids = jnp.asarray(golden["ctx"]), jnp.asarray(golden["tgt"])
        return predictor, predict_all(distilled, predictor, context, *ids, grid=GRID)

    predictor, out = jax.eval_shape(fresh, jnp.ones((2, 6, 24)))
    assert predictor["embed"]["kernel"].shape == (24, 24), "one level needs no MLP"
    assert (out.targets.shape, out.context.shape) == ((2, 5, 40), (2, 6, 40))


def test_image_patches_are_told_from_video_patches(golden, params):
    image = channels_last(golden["image"])
    patches = patchify(image, 16, 1)
    out = encode(MODEL, params["encoder"], patches, grid=Grid(1, 2, 2))
    close(out.tokens, golden["image_out"])
    patches, one = patchify(channels_last(golden["video"]), 16, 2), jnp.array([[3], [9]])
    out = encode(MODEL, params["encoder"], jnp.take_along_axis(patches, one[..., None], 1), one, grid=GRID)
    whole = encode(MODEL, params["encoder"], channels_last(golden["video"]), one)
    close(out.tokens, whole.tokens)
    single = dataclasses.replace(MODEL, tubelet=1)
    assert backbone_of(single).is_image(patchify(image, 16, 1), Grid(1, 2, 2))
    assert not backbone_of(single).is_image(patches[..., :768], Grid(2, 2, 2))


def test_vjepa2_has_one_level_and_no_image_tokenizer():
    model = dataclasses.replace(MODEL, depth=1, v21=V21Settings())
    params = jax.jit(backbone_of(model).init)(jax.random.key(0, impl="unsafe_rbg"))
    assert params.keys() == {"patch_embed", "trunk", "norm"}
    image = jnp.ones((1, 1, 32, 32, 3))
    plain = encode(model, params, image)
    np.testing.assert_array_equal(encode(model, params, image, levels=True).tokens, plain.tokens)
    np.testing.assert_array_equal(encode(model, params, image.repeat(2, 1)).tokens, plain.tokens)


def test_what_does_not_fit_is_refused(params):
    clip, ids = jnp.ones((1, 2, 32, 32, 3)), jnp.zeros((1, 1), jnp.int32)
    with pytest.raises(ValueError, match=r"has norms after blocks \(2, 5, 8, 11\) only"):
        encode(MODEL, params["encoder"], clip, layers=(3,))
    with pytest.raises(ValueError, match=r"24 wide, the predictor takes 96 \(4 x the encoder's 24\); pass encode"):
        predict(MODEL, params["predictor"], jnp.ones((1, 1, 24)), ids, ids, grid=GRID)
    plain = dataclasses.replace(MODEL, v21=V21Settings())
    with pytest.raises(ValueError, match=r"context_projection is False; use predict"):
        predict_all(plain, params["predictor"], jnp.ones((1, 1, 24)), ids, ids, grid=GRID)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"v21": {"levels": 5}, "depth": 4}, r"levels is 5; the encoder has 4 blocks, so at most 4"),
        ({"v21": {"output_levels": 2, "levels": 1}}, r"output_levels is 2, but model.v21.levels is 1"),
        ({"v21": {"levels": -1}}, r"model.v21.levels is -1; it must be at least 0"),
        ({"v21": {"rope_grid": 1}}, r"rope_grid is 1; give the side of a grid"),
        ({"v21": {"rope_grid": 16}, "positions": "sincos"}, r"rope_grid is 16, but model.positions is 'sincos'"),
        ({"width": -1}, r"model.width is -1"),
        ({"backbone": "vit", "v21": {"levels": 4}}, r"model.backbone is 'vit', but model.v21 asks.*'auto'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**fields, "v21": V21Settings(**fields.get("v21", {}))})
