"""The training step of V-JEPA 2.1 against facebookresearch's: an image, and two steps on clips with two mask sets.

Losses, what the context loss is divided by, teacher, gradients, AdamW, EMA, and what a step leaves unused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.models.encoder import patchify
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.reference_names import (
    encoder_from_facebook,
    encoder_to_facebook,
    predictor_from_facebook,
    predictor_to_facebook,
)
from surgmotion_jax.optim.rates import step as optimizer_step
from surgmotion_jax.pretrain.config import OptimConfig
from surgmotion_jax.pretrain.losses.context import ContextLossConfig, divisors
from surgmotion_jax.pretrain.objective import Prepared, TargetWeights, loss_and_metrics, targets_of
from surgmotion_jax.pretrain.optimizer import ema, make_optimizer
from surgmotion_jax.pretrain.sample.masks import MaskSet
from tests.models.test_parity21 import MODEL, channels_last
from tests.pretrain.fixtures import small_config

GOLDEN = Path(__file__).parents[1] / "golden"
DISTANT = ContextLossConfig(weight=0.5)
WITHOUT = {"loss.motion.alpha": 0.0, "loss.affinity.weight": 0.0, "loss.diversity.weight": 0.0}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "trainstep21_fb.npz")


@pytest.fixture(scope="module")
def core():
    return np.load(GOLDEN / "vjepa21_fb.npz")


def config_of(clip: str):
    """The config of the fixture's clips of 8 frames, or of its images: the same weights, one frame a token."""
    model = MODEL if clip == "video" else replace(MODEL, tubelet=1)
    config = small_config(**WITHOUT)
    object.__setattr__(config, "model", model)
    object.__setattr__(config, "data", replace(config.data, frames=8 if clip == "video" else 1))
    object.__setattr__(config, "augment", replace(config.augment, crop=32))
    object.__setattr__(config, "loss", {**config.loss, "context": DISTANT})
    return config


@pytest.fixture(scope="module")
def params(core):
    weights = {k.removeprefix("w/"): core[k] for k in core.files if k.startswith("w/")}
    encoder = encoder_from_facebook(weights, 2, "encoder.")
    both = {"encoder": encoder, "predictor": predictor_from_facebook(weights, 2, "predictor.")}
    return jax.tree.map(jnp.asarray, both)


@pytest.fixture(scope="module")
def teacher(golden):
    weights = {k.removeprefix("teacher/"): golden[k] for k in golden.files if k.startswith("teacher/")}
    return jax.tree.map(jnp.asarray, encoder_from_facebook(weights, 2))


def masks_of(golden, clip: str) -> tuple[MaskSet, ...]:
    sets = range(1 if clip == "image" else 2)
    return tuple(MaskSet(*(jnp.asarray(golden[f"{clip}_mask_{side}_{i}"]) for side in ("enc", "pred"))) for i in sets)


def prepared_of(golden, core, clip: str) -> Prepared:
    """The fixture's clips and masks; every target token counts the same."""
    return prepared_for(channels_last(core[clip]), masks_of(golden, clip), config_of(clip))


def prepared_for(video, masks: tuple[MaskSet, ...], config) -> Prepared:
    """Given clips and masks, where every target token counts the same."""
    grid = config.grid
    ones = [jnp.ones(mask.target_BxM.shape) for mask in masks]
    even = tuple(TargetWeights(x / x.shape[1], x > 0, x / x.shape[1]) for x in ones)
    rows = len(video)
    return Prepared(
        video,
        patchify(video, 16, config.model.tubelet),
        masks,
        even,
        jnp.zeros((rows, grid.columns)),
        jnp.ones((rows, grid.height, grid.width), bool),
        jnp.zeros((rows, grid.columns), bool),
        jnp.ones((rows, grid.tokens), bool),
    )


@pytest.fixture(scope="module")
def clip_loss(golden, core):
    """The loss of each kind of clip, of (parameters, teacher)."""

    def of(clip):
        prepared, config = prepared_of(golden, core, clip), config_of(clip)
        return partial(loss_and_metrics, prepared=prepared, config=config, layout=SINGLE_DEVICE)

    return {clip: of(clip) for clip in ("video", "image")}


def updated(golden, grads, params, teacher):
    """Parameters and teacher after AdamW and the moving average."""

    @jax.jit
    def update(grads, params, teacher, lr, decay, momentum):
        optimizer = make_optimizer(OptimConfig())
        after, _ = optimizer_step(optimizer, grads, optimizer.init(params), params, lr, decay)
        return after, ema(teacher, after["encoder"], momentum)

    return update(grads, params, teacher, *(jnp.float32(golden[name]) for name in ("lr", "wd", "ema")))


@pytest.fixture(scope="module")
def steps(golden, params, teacher, clip_loss):
    """(metrics of two steps on clips, first gradient, parameters and teacher after the first update)."""
    differentiated = jax.jit(jax.grad(clip_loss["video"], has_aux=True))
    grads, first = differentiated(params, teacher)
    after, moved = updated(golden, grads, params, teacher)
    _, second = differentiated(after, moved)
    return [first, second], grads, after, moved


@pytest.fixture(scope="module")
def image_grads(params, teacher, clip_loss):
    """The gradient of the image's loss."""
    return jax.jit(jax.grad(clip_loss["image"], has_aux=True))(params, teacher)[0]


def names(params):
    return encoder_to_facebook(params["encoder"], 16, 2, "encoder.") | predictor_to_facebook(
        params["predictor"], "predictor."
    )


def close(got, want, atol=1e-5):
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_losses_of_two_steps_on_clips(golden, steps):
    for i, metrics in enumerate(steps[0]):
        close(metrics["loss/motion"], golden[f"video_loss_pred_{i}"])
        close(metrics["loss/context"], golden[f"video_loss_ctx_{i}"])
        close(metrics["loss/total"], golden[f"video_loss_pred_{i}"] + 0.5 * golden[f"video_loss_ctx_{i}"])


def test_losses_of_an_image(golden, params, teacher, clip_loss):
    _, metrics = jax.jit(clip_loss["image"])(params, teacher)
    close(metrics["loss/motion"], golden["image_loss_pred"])
    close(metrics["loss/context"], golden["image_loss_ctx"])
    close(metrics["loss/total"], golden["image_loss_pred"] + 0.5 * golden["image_loss_ctx"])


@pytest.mark.parametrize("clip", ["video", pytest.param("image", marks=pytest.mark.slow)])
def test_each_level_of_the_teacher_is_normalised_alone(golden, core, teacher, clip):
    config = config_of(clip)
    patches = prepared_of(golden, core, clip).patches_BxNxP
    targets = jax.jit(lambda weights: targets_of(weights, patches, config, SINGLE_DEVICE))(teacher)
    close(targets, golden[f"{clip}_teacher"], 2e-5)


def test_the_context_loss_is_divided_by_the_root_of_the_distance(golden):
    for i, mask in enumerate(masks_of(golden, "video")):
        root_BxK = jax.jit(divisors, static_argnums=(1, 2))(mask, Grid(4, 2, 2), DISTANT)
        close(root_BxK, golden[f"video_distance_{i}"])
        assert np.ptp(golden[f"video_distance_{i}"]) > 0.1, "distances differ in this fixture"


def test_gradient_norms_of_every_parameter_on_clips(golden, steps):
    check_norms(golden, names(steps[1]), "video")


@pytest.mark.slow
def test_gradient_norms_of_every_parameter_on_an_image(golden, image_grads):
    check_norms(golden, names(image_grads), "image")


def check_norms(golden, grads, clip):
    """Compares the norm of every parameter's gradient with the fixture's."""
    stored = {k.removeprefix(f"{clip}_gradnorm/"): float(golden[k]) for k in golden.files if f"{clip}_gradnorm/" in k}
    assert stored.keys() == grads.keys()
    for name, want in stored.items():
        # NaN marks a parameter without a gradient: of the other kind of clip, and the second mask token.
        got = float(np.linalg.norm(grads[name]))
        np.testing.assert_allclose(got, 0.0 if np.isnan(want) else want, rtol=2e-4, atol=2e-6, err_msg=name)


def test_full_gradients(golden, steps):
    grads = names(steps[1])
    stored = [k for k in golden.files if k.startswith("video_grad/")]
    assert len(stored) == 8
    for key in stored:
        np.testing.assert_allclose(grads[key.removeprefix("video_grad/")], golden[key], rtol=0, atol=2e-6, err_msg=key)


def test_parameters_after_adamw(golden, steps):
    after, grads = names(steps[2]), names(steps[1])
    stored = [k.removeprefix("after1/") for k in golden.files if k.startswith("after1/")]
    assert len(stored) == 9
    for name in stored:
        # Adam divides by sqrt(v): entries whose gradient is rounding noise may move by lr either way.
        sure = (np.abs(grads[name]) > 1e-6) | (grads[name] == 0)
        np.testing.assert_allclose(after[name][sure], golden[f"after1/{name}"][sure], rtol=0, atol=2e-6, err_msg=name)
        assert sure.mean() > 0.9, name


def test_what_clips_leave_unused_does_not_decay(golden, steps, params):
    before, after = names(params), names(steps[2])
    unused = [k.removeprefix("video_gradnorm/") for k in golden.files if "video_gradnorm/" in k and np.isnan(golden[k])]
    assert len(unused) == 5
    for name in unused:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    assert np.abs(after["encoder.video_mod_embed"] - before["encoder.video_mod_embed"]).max() > 1e-4


@pytest.mark.slow
def test_what_an_image_leaves_unused_does_not_decay(golden, image_grads, params):
    after, _ = updated(golden, image_grads, params, params["encoder"])
    before, after = names(params), names(after)
    unused = [k.removeprefix("image_gradnorm/") for k in golden.files if "image_gradnorm/" in k and np.isnan(golden[k])]
    assert {*unused} == {n for n in before if np.array_equal(after[n], before[n])}
    assert "encoder.patch_embed.proj.weight" in unused


def test_ema_covers_levels_tokenizers_and_modalities(golden, steps):
    moved = encoder_to_facebook(steps[3], 16, 2)
    stored = [k.removeprefix("ema1/") for k in golden.files if k.startswith("ema1/")]
    assert {"norms_block.3.bias", "video_mod_embed", "img_mod_embed", "patch_embed_img.proj.bias"} <= {*stored}
    for name in stored:
        np.testing.assert_allclose(moved[name], golden[f"ema1/{name}"], rtol=0, atol=1e-5, err_msg=name)
    before = {k.removeprefix("teacher/") for k in golden.files if k.startswith("teacher/")}
    assert before == moved.keys()
    still = [name for name in moved if np.array_equal(moved[name], golden[f"teacher/{name}"])]
    assert not still, "every parameter of the encoder follows"
