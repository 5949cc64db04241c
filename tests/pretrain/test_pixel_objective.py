"""Pixels as targets: the formulas, the gradient, the state, and what the rival shares with the latent objective."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, to_global
from surgmotion_jax.pretrain.config import AlarmConfig
from surgmotion_jax.pretrain.losses.pixels import VARIANCE_EPS, pixel_loss, pixel_targets
from surgmotion_jax.pretrain.monitor.alarms import check_monitoring, collapse_alarms
from surgmotion_jax.pretrain.monitor.heldout import compile_heldout_step
from surgmotion_jax.pretrain.objective import (
    Prepared,
    TargetWeights,
    loss_and_metrics,
    pixels_of,
    prepare,
    record_of,
    set_terms,
)
from surgmotion_jax.pretrain.plan.cost import expected_traffic, kept_bytes, step_flops
from surgmotion_jax.pretrain.sample.masks import MaskSet, mask_programs
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.summary import parameter_count, summarise
from surgmotion_jax.pretrain.state import abstract_state, init_state, shardings_of
from surgmotion_jax.pretrain.step import prepare_shards
from tests.pretrain.fixtures import random_batch, small_config

SMALL = {"model.width": 96, "model.heads": 6, "model.mlp": 192}
PIXEL = {
    **SMALL,
    "objective.kind": "pixel",
    "objective.decoder.width": 48,
    "objective.decoder.depth": 1,
    "objective.decoder.heads": 6,
    "loss.affinity.weight": 0.0,
    "loss.diversity.weight": 0.0,
}


def pixel_config(**overrides):
    return small_config(**PIXEL, **overrides)


def layout_of(*shape):
    return MeshLayout(make_mesh(ParallelConfig(*shape), jax.devices()[: int(np.prod(shape))]))


def numpy_targets(video, patch, tubelet, norm):
    """One patch after the other, in float64."""
    batch, frames, height, width, _ = video.shape
    rows = []
    for b in range(batch):
        for t in range(0, frames, tubelet):
            for y in range(0, height, patch):
                for x in range(0, width, patch):
                    values = video[b, t : t + tubelet, y : y + patch, x : x + patch].reshape(-1, 3)
                    axis = {"patch": None, "channel": 0, "none": None}[norm]
                    if norm != "none":
                        values = (values - values.mean(axis)) / np.sqrt(values.var(axis) + VARIANCE_EPS)
                    rows.append(values.reshape(-1))
    return np.array(rows).reshape(batch, -1, rows[0].size)


@pytest.mark.parametrize("norm", ["patch", "channel", "none"])
def test_targets_are_the_formula(norm):
    video = np.random.default_rng(0).uniform(size=(2, 4, 16, 24, 3)) * np.array([1.0, 0.5, 0.2])
    with jax.enable_x64(True):
        got = pixel_targets(jnp.asarray(video), 8, 2, norm)
    np.testing.assert_allclose(got, numpy_targets(video, 8, 2, norm), rtol=0, atol=1e-6)
    per_channel = np.asarray(got).reshape(2, 12, -1, 3).mean(2)
    assert np.allclose(per_channel, 0, atol=1e-6) == (norm == "channel"), "only 'channel' loses the colour of a patch"
    single = pixel_targets(jnp.asarray(video, jnp.float32), 8, 2, norm)
    np.testing.assert_allclose(single, got, rtol=0, atol=2e-5)


@pytest.mark.parametrize("norm", ["patch", "channel"])
def test_a_patch_without_texture_is_zero_and_faint_noise_is_not_blown_up(norm):
    grey = jnp.full((1, 2, 8, 8, 3), 0.4)
    assert np.abs(pixel_targets(grey, 8, 2, norm)).max() < 1e-3
    noise = grey + 1e-4 * jax.random.normal(jax.random.key(0), grey.shape)
    assert float(jnp.std(pixel_targets(noise, 8, 2, norm))) < 0.2


def random_prediction(rng):
    return rng.normal(size=(2, 5, 12)), rng.normal(size=(2, 5, 12)), rng.uniform(size=(2, 5))


def test_loss_is_the_formula_and_so_is_its_gradient():
    predicted, target, weight = random_prediction(np.random.default_rng(1))
    want = np.mean((weight * ((predicted - target) ** 2).mean(-1)).sum(-1))
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in (predicted, target, weight)]
        value, slope = jax.value_and_grad(pixel_loss)(*arrays)
        np.testing.assert_allclose(value, want, rtol=1e-6)
        for place in [(0, 0, 0), (1, 4, 11), (0, 3, 7)]:
            up, down = predicted.copy(), predicted.copy()
            up[place] += 1e-6
            down[place] -= 1e-6
            difference = (pixel_loss(jnp.asarray(up), *arrays[1:]) - pixel_loss(jnp.asarray(down), *arrays[1:])) / 2e-6
            np.testing.assert_allclose(slope[place], difference, rtol=1e-6)


def test_motion_weighs_pixels_only_where_asked():
    predicted, target, motion = map(jnp.asarray, random_prediction(np.random.default_rng(2)))
    plain = jnp.full((2, 5), 0.2)
    mask = MaskSet(jnp.zeros((2, 0), jnp.int32), jnp.tile(jnp.arange(5), (2, 1)))
    weights = TargetWeights(motion, jnp.ones((2, 5), bool), plain)
    prepared = Prepared(*[jnp.zeros(2)] * 2, (mask,), (weights,), *[jnp.zeros(2)] * 4)

    def total(weigh):
        config = pixel_config(**{"objective.weigh_motion": weigh})
        inputs = record_of(prepared, 0, predicted, jnp.zeros(2), target, config, jnp.int32(0))
        return set_terms(inputs, config)["loss/total"]

    losses = {weigh: total(weigh) for weigh in (False, True)}
    np.testing.assert_allclose(losses[False], pixel_loss(predicted, target, plain))
    np.testing.assert_allclose(losses[True], pixel_loss(predicted, target, motion))
    assert losses[False] != losses[True]


@pytest.fixture(scope="module")
def config():
    return pixel_config()


@pytest.fixture(scope="module")
def program(config):
    return mask_programs(config.mask, config.grid)[0]


@pytest.fixture(scope="module")
def params(config):
    """Random parameters of a run's shapes: nothing is compiled."""
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: init_state(config).params)

    def draw(path, leaf):
        middle = 1.0 if path[-1].key == "scale" else 0.0  # norms that shrank their input would hide the encoder
        return jnp.asarray(middle + 0.05 * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def differentiated(config, program, layout):
    """Of parameters and batch: loss, metrics and the batch as the model saw it; gradient."""

    def loss(params, batch):
        prepared = prepare_shards(batch, jnp.int32(0), config, program, layout, training=True)
        value, metrics = loss_and_metrics(params, None, prepared, config, layout)  # asks no target encoder
        return value, (metrics, prepared)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def differentiate(config, program):
    return differentiated(config, program, SINGLE_DEVICE)


def test_the_gradient_of_all_parameters_is_the_slope_of_the_loss(config, params, differentiate):
    """Along the gradient itself, in float32, extrapolated: encoder and decoder both carry part of it."""
    batch = random_batch(config, 4)
    gradient = differentiate(params, batch)[1]
    squares = {part: sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(gradient[part])) for part in gradient}
    assert min(squares.values()) > 1e-3 * max(squares.values()), squares
    length = sum(squares.values()) ** 0.5

    def slope(distance):
        ends = [jax.tree.map(lambda p, g, d=d: p + d * g / length, params, gradient) for d in (distance, -distance)]
        high, low = (float(differentiate(end, batch)[0][0]) for end in ends)
        return (high - low) / (2 * distance)

    extrapolated = (4 * slope(0.01) - slope(0.02)) / 3
    np.testing.assert_allclose(extrapolated, length, rtol=1e-3)


def test_the_loss_is_that_of_the_pixels_alone(config, params, differentiate):
    (value, (metrics, prepared)), _ = differentiate(params, random_batch(config, 4))
    assert float(value) == float(metrics["loss/pixel"])
    targets = jax.jit(lambda p: pixels_of(p, config))(prepared)
    video = np.asarray(prepared.video01_BxTxHxWx3, np.float64)
    np.testing.assert_allclose(targets, numpy_targets(video, 16, 2, "patch"), rtol=0, atol=5e-4)
    assert {name for name in metrics if name.startswith("loss/")} == {"loss/total", "loss/pixel", "loss/l1"}


@pytest.mark.slow
def test_sharded_loss_and_gradient_equal_those_of_one_device(config, program, params, differentiate):
    (single, _), wanted = differentiate(params, random_batch(config, 4))
    layout = layout_of(1, 2, 2)
    split = jax.device_put(params, shardings_of(abstract_state(config, layout).params))
    kernel = split["decoder"]["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4, "the decoder must really be split"
    batch = to_global(layout, random_batch(config, 4), 4)
    (loss, _), gradient = differentiated(config, program, layout)(split, batch)
    np.testing.assert_allclose(loss, single, rtol=1e-5)
    for got, want in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max() + 1e-9)


def test_the_head_alone_differs_in_the_state(config):
    pixel, latent = (jax.eval_shape(lambda c=c: init_state(c)) for c in (config, small_config(**SMALL)))
    assert (pixel.params.keys(), latent.params.keys()) == ({"encoder", "decoder"}, {"encoder", "predictor"})
    assert pixel.params["encoder"] == latent.params["encoder"]
    assert pixel.target == latent.target
    shape = pixel.params["decoder"]["proj"]["kernel"].shape
    assert shape == (48, 2 * 16 * 16 * 3)


def test_held_out_errors_of_pixels(config, program, params):
    """The best constant for squares is the mean: its error is the variance of the masked tokens' values."""
    layout = layout_of(1, 1, 1)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(config, layout))
    state = jax.device_put(zeros._replace(params=params, target=params["encoder"]), layout.replicated)
    batch = random_batch(config, 8)
    result = jax.device_get(compile_heldout_step(config, program, layout)(state, to_global(layout, batch, 8)))

    @jax.jit
    def expected(batch):
        same = {"program": program, "training": False}
        one, other = (prepare(batch, jnp.int32(0), config=c, **same) for c in (config, small_config(**SMALL)))
        return pixels_of(one, config), *((p.masks[0].target_BxM, p.patches_BxNxP) for p in (one, other))

    targets, (ids, patches), latent = jax.device_get(expected(batch))
    for ours, theirs in zip((ids, patches), latent, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg="the latent objective sees the same")
    masked = np.take_along_axis(targets, ids[..., None], axis=1).astype(np.float64)
    np.testing.assert_allclose(result.metrics["heldout/constant"], masked.var((0, 1)).mean(), rtol=1e-5)
    assert result.metrics["heldout/loss"] != result.metrics["heldout/shuffled"]
    np.testing.assert_allclose(result.pictured.error_BxM.mean(), result.metrics["heldout/loss"], rtol=0.3)
    assert result.gram_CxC.shape == (96, 96), "the effective rank is that of features, not of pixels"
    gauges = {name for name in result.metrics if name.startswith("gauge/")}
    assert gauges == {"gauge/pixel_std", "gauge/target_std", "gauge/context_target_cosine"}


def test_predicting_the_mean_raises_no_alarm_and_the_start_says_so():
    gauges = {"gauge/rankme": 50.0, "gauge/target_std": 0.8, "gauge/context_target_cosine": 0.1, "gauge/pixel_std": 0.0}
    assert collapse_alarms(1000, gauges, AlarmConfig()) == []
    assert len(collapse_alarms(1000, gauges | {"gauge/rankme": 1.0}, AlarmConfig())) == 1
    told = check_monitoring(pixel_config(steps=1000, **{"alarms.prediction_std": 0.2}))
    assert any("alarms.prediction_std" in text and "pixels are predicted" in text for text in told), told


def test_operations_count_the_decoder_and_no_target_encoder():
    pixel, latent = pixel_config(), small_config(**SMALL)
    programs = mask_programs(pixel.mask, pixel.grid)
    ours, theirs = step_flops(pixel, programs), step_flops(latent, programs)
    context, target = programs[0].contexts[0], programs[0].targets[0]
    n, width, values = context + target, 48, 2 * 16 * 16 * 3
    block = 8 * n * width**2 + 4 * n**2 * width + 4 * n * width * 4 * width
    assert ours.predictor == 8 * (2 * context * 96 * width + block + 2 * target * width * values)
    assert (ours.target, ours.losses) == (0, 0)
    assert theirs.target > theirs.context == ours.context > 0
    assert kept_bytes(pixel, programs[0], 1) > 0
    mesh = {"data": 2, "fsdp": 2, "tensor": 1}
    gathered = [
        {t.kind: t.bytes for t in expected_traffic(c, abstract_state(c, layout_of(2, 2, 1)), mesh)}["all-gather"]
        for c in (pixel, latent)
    ]
    assert gathered[0] < gathered[1], "one pass over the encoder less"


def test_both_objectives_are_announced_with_parameters_and_operations():
    for config, head in ((pixel_config(), "decoder"), (small_config(**SMALL), "predictor")):
        layout = layout_of(1, 1, 1)
        programs, state = check(config, layout)
        told = summarise(config, layout, state, programs)
        assert f"{parameter_count(state.params[head]) / 1e6:.2f} M parameters" in told[head]
        assert ("rival" in told) == config.objective.pixels, "who trains features need not hear of pixels"
        assert f"{step_flops(config, programs).model / 8e9:.3g} GFLOP" in told["work"]
    told = summarise(pixel_config(), layout, check(pixel_config(), layout)[1], programs)
    assert "squared error of pixels normalised per tube patch" in told["loss"]
    assert told["rival"].startswith("latent objective: ")
    assert "M parameters" in told["rival"]
    assert "GFLOP a clip and step" in told["rival"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"objective.kind": "pixels"}, r"objective.kind is 'pixels'.* Did you mean 'pixel'"),
        ({"objective.norm_pixels": "tube"}, r"objective.norm_pixels is 'tube'; it must be one of patch, channel, none"),
        (
            {"loss.affinity.weight": 0.1, "loss.diversity.weight": 0.3},
            r"Set --config.loss.affinity.weight=0 --config.loss.diversity.weight=0",
        ),
        ({"loss.diversity.weight": 0.3}, r"'pixel', but loss.diversity.weight are not 0.*Set --config.loss.div"),
        ({"objective.stop_gradient": False}, r"pixels have no gradient to stop.*stop_gradient=True"),
        (
            {"objective.weigh_motion": True, "loss.motion.scope": "topk"},
            r"weights on every token: set --config.loss.motion.scope=dense",
        ),
        (
            {"loss.pixel.weight": 0.0},
            r"no term judges the predicted pixels.*--config.loss.pixel.weight=1",
        ),
        ({"objective.decoder.heads": 5}, r"objective.decoder.width is 48 with 5 heads.*change objective.decoder.heads"),
        ({"objective.decoder.heads": 16}, r"parts of at least 6"),
        ({"objective.decoder.depth": 0}, r"objective.decoder.depth is 0; it must be at least 1"),
    ],
)
def test_what_does_not_fit_pixels_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        small_config(**(PIXEL | overrides))


def test_a_mesh_that_does_not_divide_the_decoder_s_heads_is_refused():
    with pytest.raises(ValueError, match="the decoder has 3 heads, not divisible by parallel.tensor 2"):
        check(small_config(**(PIXEL | {"objective.decoder.heads": 3})), layout_of(1, 1, 2))
