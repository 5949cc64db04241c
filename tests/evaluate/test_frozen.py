"""The encoder as a library: what goes in, what comes out, on one device and on eight."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import surgmotion_jax
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, features
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from tests.evaluate.encoders import CONFIG

BACKBONE = backbone_of(CONFIG)


@pytest.fixture(scope="module")
def state():
    """Online and target encoders that differ."""
    keys = jax.random.split(jax.random.key(3), 3)
    encoder, predictor = jax.jit(BACKBONE.init), jax.jit(BACKBONE.predictor.init)
    params = {"encoder": encoder(keys[0]), "predictor": predictor(keys[1])}
    return {"step": jnp.int32(7), "params": params, "target": encoder(keys[2])}


@pytest.fixture(scope="module")
def workdir(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with CheckpointStore(folder / "checkpoints") as store:
        assert store.save(7, state, ManifestFields("pretrain", architecture(CONFIG), {}), wait=True)
    return folder


@pytest.fixture(scope="module")
def encoder(workdir) -> FrozenEncoder:
    return surgmotion_jax.load_encoder(workdir, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def video_BxTxHxWx3():
    return np.random.default_rng(0).integers(0, 256, (3, 4, 16, 24, 3), dtype=np.uint8)


def direct(params, video, layers=()):
    """The same through `encode`, normalised here."""
    pixels = (video / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return jax.jit(BACKBONE.encode, static_argnames="layers")(params, pixels, layers=layers)


def test_tokens_are_those_of_the_target_encoder_by_default(encoder, state, workdir, video_BxTxHxWx3):
    tokens = encoder(video_BxTxHxWx3)
    assert tokens.shape == (3, 2, 2, 3, 48)
    assert tokens.dtype == jnp.float32
    target = direct(state["target"], video_BxTxHxWx3).tokens.reshape(tokens.shape)
    online = direct(state["params"]["encoder"], video_BxTxHxWx3).tokens.reshape(tokens.shape)
    assert np.abs(target - online).max() > 0.1
    np.testing.assert_allclose(tokens, target, atol=2e-5)
    other = surgmotion_jax.load_encoder(workdir, weights="online", devices=jax.devices()[:1])
    np.testing.assert_allclose(other(video_BxTxHxWx3), online, atol=2e-5)
    assert other.origin.digest != encoder.origin.digest
    assert (encoder.origin.name, encoder.origin.step) == (workdir.name, 7)


def test_layers_come_on_the_same_grid(encoder, state, video_BxTxHxWx3):
    found = encoder(video_BxTxHxWx3, layers=(1, 0))
    wanted = direct(state["target"], video_BxTxHxWx3, (1, 0)).layers
    assert found.layers.shape == (2, 3, 2, 2, 3, 48)
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01
    np.testing.assert_allclose(found.layers, wanted.reshape(found.layers.shape), atol=2e-5)
    np.testing.assert_allclose(found.tokens, found.layers[0], atol=2e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.float32])
def test_floats_in_the_unit_range_are_the_same_clip(encoder, video_BxTxHxWx3, dtype):
    array = jnp.asarray if dtype is jnp.float32 else np.asarray
    unit = array(video_BxTxHxWx3.astype(dtype) / dtype(255))
    np.testing.assert_allclose(encoder(unit), encoder(video_BxTxHxWx3), atol=1e-5)


def test_eight_devices_give_what_one_gives(workdir, encoder, video_BxTxHxWx3):
    eight = surgmotion_jax.load_encoder(workdir)
    clips = np.tile(video_BxTxHxWx3, (3, 1, 1, 1, 1))[:8]
    clips[:, 0, 0, 0, 0] = np.arange(8)
    wanted = encoder(clips, layers=(0,))
    assert len(wanted.tokens.devices()) == 1
    assert len(eight(clips, layers=(0,)).tokens.devices()) == 8
    for rows in (3, 8):
        many = eight(clips[:rows], layers=(0,))
        assert many.tokens.shape[0] == many.layers.shape[1] == rows
        np.testing.assert_allclose(many.tokens, wanted.tokens[:rows], atol=2e-5)
        np.testing.assert_allclose(many.layers, wanted.layers[:, :rows], atol=2e-5)


def test_one_program_for_each_shape(workdir, video_BxTxHxWx3):
    fresh = surgmotion_jax.load_encoder(workdir, devices=jax.devices()[:2])
    for rows in (3, 4, 3):  # two devices: both are four rows
        fresh(np.tile(video_BxTxHxWx3, (2, 1, 1, 1, 1))[:rows])
    assert fresh.programs == 1
    fresh(video_BxTxHxWx3, layers=(0,))
    fresh(video_BxTxHxWx3[:, :2])
    assert fresh.programs == 3
    fresh(video_BxTxHxWx3[:, 2:])
    fresh(video_BxTxHxWx3, layers=[0])
    assert fresh.programs == 3


def test_a_still_image_is_one_tubelet(encoder, video_BxTxHxWx3):
    still = video_BxTxHxWx3[:, :1]
    np.testing.assert_allclose(encoder(still), encoder(np.repeat(still, 2, axis=1)), atol=2e-5)


def test_bfloat16_is_close_and_comes_back_as_float32(workdir, encoder, video_BxTxHxWx3):
    low = surgmotion_jax.load_encoder(workdir, dtype="bfloat16", devices=jax.devices()[:1])(video_BxTxHxWx3)
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - encoder(video_BxTxHxWx3)).max() < 0.1


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2, 3, 16, 16, 3), "3 frames.* multiple of 2 .*such as 2"),
        ((2, 4, 20, 16, 3), "20 x 16 pixels.* multiples of 8, such as 16 x 16"),
        ((2, 4, 16, 4, 3), "16 x 4 pixels.*such as 16 x 8"),
        ((4, 16, 16, 3), "shape .4, 16, 16, 3..*add the batch axis"),
        ((2, 3, 4, 16, 16), "move the channels last"),
        ((2, 4, 3, 16, 16), "move the channels last"),
        ((2, 4, 16, 16, 4), r"allowed is \[clips, frames, rows, columns, 3\]"),
        ((0, 4, 16, 16, 3), "none empty"),
    ],
)
def test_a_clip_of_another_shape_is_refused(encoder, shape, match):
    with pytest.raises(ValueError, match=match):
        encoder(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        (255, np.float32, "ranges from 0 to 255; .*divide 8-bit values by 255"),
        (-1.5, np.float32, "ranges from -1.5 to 0; .*normalisation to the encoder"),
        (np.nan, np.float32, "ranges from nan to nan"),
        (1, np.int32, "dtype int32; allowed are uint8"),
        (1, bool, "dtype bool; allowed are uint8"),
    ],
)
def test_pixels_out_of_range_are_refused(encoder, value, dtype, match):
    video = np.zeros((1, 2, 8, 8, 3), dtype)
    video[0, 0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=match):
        encoder(video)
    if dtype is np.float32:
        with pytest.raises(ValueError, match=match):
            encoder(jnp.asarray(video))


def test_a_layer_that_is_not_there_is_refused(encoder, video_BxTxHxWx3):
    with pytest.raises(ValueError, match="distinct block numbers in 0..1"):
        encoder(video_BxTxHxWx3, layers=(2,))


def test_encoder_predictor_and_target_work_together(workdir, state, video_BxTxHxWx3):
    trained = surgmotion_jax.load_pretraining(workdir, devices=jax.devices()[:2])
    grid = trained.encoder.grid(4, 16, 24)
    seen = np.tile(np.arange(0, grid.tokens, 2), (3, 1))
    hidden = np.tile(np.arange(1, grid.tokens, 2), (3, 1))
    context = trained.encoder.selected(video_BxTxHxWx3, seen)
    predicted = trained.predictor(context, seen, hidden, grid)
    assert predicted.shape == (3, 6, trained.encoder.width)
    pixels = (video_BxTxHxWx3 / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    wanted_context = jax.jit(BACKBONE.encode)(state["params"]["encoder"], pixels, seen).tokens
    wanted = jax.jit(BACKBONE.predictor.predict, static_argnames="grid")(
        state["params"]["predictor"], wanted_context, seen, hidden, grid=grid
    )
    np.testing.assert_allclose(context, wanted_context, atol=2e-5)
    np.testing.assert_allclose(predicted, wanted, atol=2e-5)
    whole = trained.target(video_BxTxHxWx3).reshape(3, grid.tokens, -1)
    np.testing.assert_allclose(whole, direct(state["target"], video_BxTxHxWx3).tokens, atol=2e-5)
    with pytest.raises(ValueError, match=r"ids range from 2 to 12; the grid \(2, 2, 3\) has 0..11"):
        trained.predictor(context, seen, hidden + 1, grid)
    with pytest.raises(ValueError, match="whole numbers"):
        trained.encoder.selected(video_BxTxHxWx3, seen.astype(float))


def test_random_weights_are_named_by_their_seed():
    encoders = [
        surgmotion_jax.load_encoder(f"random:{name}", devices=jax.devices()[:1])
        for name in ("vit_nano", "vit_nano:0", "vit_nano:7")
    ]
    digests = [e.origin.digest for e in encoders]
    assert digests[0] == digests[1] != digests[2]
    assert encoders[0].origin.name == "random:vit_nano:0"
    fine = surgmotion_jax.load_encoder("random:vit_nano/8:7", devices=jax.devices()[:1])
    assert fine.origin.name == "random:vit_nano/8:7"
    assert fine(np.zeros((1, 2, 16, 16, 3), np.uint8)).shape == (1, 1, 2, 2, 192)
    assert encoders[0](np.zeros((1, 2, 16, 16, 3), np.uint8)).shape == (1, 1, 1, 1, 192)


@pytest.mark.parametrize(
    ("path", "settings", "match"),
    [
        ("random:vit_atom", {}, "random:VARIANT/PATCH .*random:VARIANT:SEED.*vit_tiny"),
        ("random:vit_nano:x", {}, "random:VARIANT:SEED, in that order"),
        ("random:vit_nano/0", {}, "random:VARIANT/PATCH"),
        ("no/such/place", {}, "no such directory"),
        ("random:vit_nano", {"weights": "ema"}, "weights is 'ema'.* target, online"),
        ("random:vit_nano", {"dtype": "float16"}, "dtype is 'float16'"),
        ("random:vit_nano", {"attention": "cudnn"}, "needs a GPU"),
    ],
)
def test_what_cannot_be_loaded_is_refused(path, settings, match):
    with pytest.raises(ValueError, match=match):
        surgmotion_jax.load_encoder(path, **settings)


def test_the_pure_function_can_be_traced(encoder, video_BxTxHxWx3):
    pure = jax.jit(lambda p, v: features(encoder.config, p, v).tokens)
    np.testing.assert_allclose(pure(encoder.params, video_BxTxHxWx3), encoder(video_BxTxHxWx3), atol=2e-5)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    assert "load_encoder" in dir(surgmotion_jax)
    with pytest.raises(AttributeError, match="no attribute 'load_decoder'; it has"):
        surgmotion_jax.load_decoder  # noqa: B018
