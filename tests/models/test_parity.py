"""Numerical parity with the PyTorch releases, from stored fixtures (float32)."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid, ModelConfig, PredictorSettings
from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.models.positions import rotary_segment, segment_angles
from surgmotion_jax.models.reference_names import (
    encoder_from_facebook,
    encoder_to_facebook,
    facebook_names,
    predictor_from_facebook,
    predictor_to_facebook,
)
from surgmotion_jax.models.transformer import Linear

GOLDEN = Path(__file__).parents[1] / "golden"
TOLERANCE = 2e-5


# The fixtures' architecture, which is no row of the ViT table.
MODEL = ModelConfig(
    depth=3,
    width=48,
    heads=3,
    mlp=192,
    patch=8,
    dtype="float32",
    remat="none",
    predictor=PredictorSettings(32, 2, 2, mask_tokens=3, mask_index=1),
)
GRID = Grid(4, 4, 4)


@pytest.fixture(scope="module")
def core():
    return np.load(GOLDEN / "core_hf.npz")


@pytest.fixture(scope="module")
def weights(core):
    return facebook_names({k.removeprefix("w/"): core[k] for k in core.files if k.startswith("w/")})


@pytest.fixture(scope="module")
def params(weights):
    return {
        "encoder": encoder_from_facebook(weights, 3, "encoder."),
        "predictor": predictor_from_facebook(weights, 2, "predictor."),
    }


def channels_last(pixels_BxTx3xHxW):
    return jnp.asarray(pixels_BxTx3xHxW.transpose(0, 1, 3, 4, 2))


def close(got, want):
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=TOLERANCE)


def test_fixture_matches_this_architecture(core):
    config = json.loads(str(core["config_json"]))
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (48, 3, 3)


def test_names_round_trip(weights, params):
    back = encoder_to_facebook(params["encoder"], 8, 2, "encoder.")
    back |= predictor_to_facebook(params["predictor"], "predictor.")
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_patch_embedding(core, params):
    patches = patchify(channels_last(core["pixel_values_videos"]), 8, 2)
    layer = Linear((48,), (None, "embed"), jnp.float32)
    close(layer.apply({"params": params["encoder"]["patch_embed"]}, patches), core["encoder_patch_embed"])


def test_encoder_full_clip(core, params):
    out = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"]))
    close(out.tokens, core["encoder_last_hidden_state"])


def test_captured_layer_is_the_final_norm_of_that_block(core, params):
    out = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"]), layers=(2, 0))
    close(out.layers[0], core["encoder_last_hidden_state"])
    x = core["encoder_layer0_out"]
    norm = params["encoder"]["norm"]
    centred = x - x.mean(-1, keepdims=True)
    want = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    close(out.layers[1], want)


def test_encoder_gathers_before_the_blocks(core, params):
    ids = jnp.asarray(core["ctx_sorted"])
    out = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"]), ids)
    close(out.tokens, core["encoder_masked_sorted"])
    full = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"])).tokens
    gathered = jnp.take_along_axis(full, ids[..., None], axis=1)
    assert np.abs(gathered - out.tokens).max() > 1, "encode-then-gather must differ, or this test shows nothing"


@pytest.mark.parametrize("frames", [16, 1])
def test_encoder_other_lengths(core, params, frames):
    out = backbone_of(MODEL).encode(params["encoder"], channels_last(core[f"pixel_{frames}f"]))
    close(out.tokens, core[f"encoder_{frames}f"])


@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_predictor(core, params, order):
    # Hugging Face encodes the whole clip and gathers context features afterwards.
    full = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"])).tokens
    context, target = jnp.asarray(core[f"ctx_{order}"]), jnp.asarray(core[f"tgt_{order}"])
    features = jnp.take_along_axis(full, context[..., None], axis=1)
    out = backbone_of(MODEL).predictor.predict(params["predictor"], features, context, target, grid=GRID)
    close(out, core[f"predictor_{order}_last_hidden_state"])


def test_predictor_with_all_tokens_twice(core, params):
    full = backbone_of(MODEL).encode(params["encoder"], channels_last(core["pixel_values_videos"])).tokens
    ids = jnp.broadcast_to(jnp.arange(64), (2, 64))
    out = backbone_of(MODEL).predictor.predict(params["predictor"], full, ids, ids, grid=GRID)
    close(out, core["predictor_default_last_hidden_state"])


@pytest.mark.parametrize("head_dim", [16, 32, 64, 80, 88, 104])
def test_rotary_segment(head_dim):
    golden = np.load(GOLDEN / "rope_hf.npz")
    q, positions = golden[f"q_{head_dim}"], golden[f"pos_{head_dim}"]
    assert q.shape[-1] == rotary_segment(head_dim)
    angle = np.asarray(segment_angles(jnp.asarray(positions), q.shape[-1], interleaved=False))
    partner = np.stack([-q[..., 1::2], q[..., ::2]], axis=-1).reshape(q.shape)
    close(q * np.cos(angle) + partner * np.sin(angle), golden[f"out_{head_dim}"])
