"""Two optimiser steps against facebookresearch modules: losses, gradients, AdamW, EMA, unused mask tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import PredictorSettings
from surgmotion_jax.models.encoder import gather_tokens, patchify
from surgmotion_jax.models.layout import SINGLE_DEVICE
from surgmotion_jax.models.reference_names import (
    encoder_from_facebook,
    encoder_to_facebook,
    facebook_names,
    predictor_from_facebook,
    predictor_to_facebook,
)
from surgmotion_jax.models.transformer import normalise
from surgmotion_jax.optim.rates import step
from surgmotion_jax.pretrain.config import OptimConfig
from surgmotion_jax.pretrain.losses.motion import motion_loss
from surgmotion_jax.pretrain.objective import TARGET_NORM_EPS, predict_targets, targets_of
from surgmotion_jax.pretrain.optimizer import ema, make_optimizer
from surgmotion_jax.pretrain.sample.masks import MaskSet
from tests.models.test_parity import MODEL, channels_last
from tests.pretrain.fixtures import small_config

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "trainstep_fb.npz")


@pytest.fixture(scope="module")
def core():
    return np.load(GOLDEN / "core_hf.npz")


@pytest.fixture(scope="module")
def weights(core):
    return facebook_names({k.removeprefix("w/"): core[k] for k in core.files if k.startswith("w/")})


def torch_normal(state: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
    """`torch.randn` on CPU for sizes that are multiples of 16: Box-Muller on 24-bit uniforms, eight pairs at a time."""
    count = int(np.prod(shape))
    assert count % 16 == 0
    raw = state.randint(0, 2**32, count, dtype=np.uint32)
    uniform = ((raw & 0xFFFFFF) / np.float32(2**24)).astype(np.float32).reshape(-1, 2, 8)
    radius = np.sqrt(-2 * np.log(1 - uniform[:, 0]))
    angle = np.float32(2 * np.pi) * uniform[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(shape)


def teacher_weights(weights) -> dict[str, np.ndarray]:
    """The fixture's teacher: student weights times 1 + 0.05 n, n drawn in PyTorch's order of parameters from seed 7.

    The fixture stores only six of its tensors; `test_teacher_is_the_fixtures` holds this against them and its tokens.
    """
    state = np.random.RandomState(7)
    parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    modules = ["patch_embed.proj", *(f"blocks.{i}.{part}" for i in range(3) for part in parts), "norm"]
    names = [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    return {n: weights[f"encoder.{n}"] * (1 + 0.05 * torch_normal(state, weights[f"encoder.{n}"].shape)) for n in names}


@pytest.fixture(scope="module")
def steps(golden, core, weights):
    """Losses of two steps, the first gradient, and the parameters after the first update."""
    model = replace(MODEL, predictor=PredictorSettings(32, 2, 2, mask_tokens=3, mask_index=0))
    config = small_config()
    object.__setattr__(config, "model", model)
    object.__setattr__(config, "augment", type(config.augment)(crop=32))
    params = {
        "encoder": encoder_from_facebook(weights, 3, "encoder."),
        "predictor": predictor_from_facebook(weights, 2, "predictor."),
    }
    params = jax.tree.map(jnp.asarray, params)
    patches = patchify(channels_last(core["pixel_values_videos"]), 8, 2)
    teacher = jnp.asarray(golden["teacher_normed_tokens_step0"])
    masks = [MaskSet(jnp.asarray(golden[f"mask_enc_{i}"]), jnp.asarray(golden[f"mask_pred_{i}"])) for i in (0, 1)]

    def loss(params, teacher):
        def one(mask):
            predicted, _ = predict_targets(params, patches, mask, config, SINGLE_DEVICE)
            target = gather_tokens(teacher, mask.target_BxM)
            even = jnp.full(mask.target_BxM.shape, 1 / mask.target_BxM.shape[1])
            return motion_loss(predicted, target, even)

        return jnp.stack([one(m) for m in masks]).mean()

    optimizer = make_optimizer(OptimConfig())
    first, grads = jax.value_and_grad(loss)(params, teacher)
    after, _ = step(optimizer, grads, optimizer.init(params), params, golden["lr"], golden["wd"])
    moved = ema(
        jax.tree.map(jnp.asarray, encoder_from_facebook(teacher_weights(weights), 3)), after["encoder"], golden["ema"]
    )
    second = loss(after, targets_of(moved, patches, config, SINGLE_DEVICE))
    return [float(first), float(second)], grads, after


def names(params):
    return encoder_to_facebook(params["encoder"], 8, 2, "encoder.") | predictor_to_facebook(
        params["predictor"], "predictor."
    )


def test_teacher_is_the_fixtures(golden, core, weights):
    teacher = teacher_weights(weights)
    for key in golden.files:
        if key.startswith("teacher/"):
            np.testing.assert_allclose(
                teacher[key.removeprefix("teacher/")], golden[key], rtol=0, atol=1e-6, err_msg=key
            )
    tokens = (
        backbone_of(MODEL).encode(encoder_from_facebook(teacher, 3), channels_last(core["pixel_values_videos"])).tokens
    )
    want = golden["teacher_normed_tokens_step0"]
    np.testing.assert_allclose(normalise(tokens, TARGET_NORM_EPS), want, rtol=0, atol=2e-5)


def test_losses(golden, steps):
    np.testing.assert_allclose(steps[0], golden["losses"], rtol=0, atol=1e-5)


def test_gradient_norms_of_every_parameter(golden, steps):
    grads = names(steps[1])
    checked = 0
    for key in golden.files:
        if key.startswith("gradnorm/"):
            name = key.removeprefix("gradnorm/")
            want = float(golden[key])
            got = float(np.linalg.norm(grads[name]))
            # NaN marks a parameter without a gradient: the mask tokens that no mask used.
            np.testing.assert_allclose(got, 0.0 if np.isnan(want) else want, rtol=2e-4, atol=2e-6, err_msg=name)
            checked += 1
    assert checked == len(grads)


def test_full_gradients(golden, steps):
    grads = names(steps[1])
    stored = [k for k in golden.files if k.startswith("grad/")]
    assert len(stored) == 8
    for key in stored:
        np.testing.assert_allclose(grads[key.removeprefix("grad/")], golden[key], rtol=0, atol=2e-6, err_msg=key)


def test_parameters_after_adamw(golden, steps, weights):
    after = names(steps[2])
    for key in golden.files:
        name = key.removeprefix("after1/").removesuffix("_no_grad_unchanged")
        if key.startswith("after1/"):
            # Adam divides by sqrt(v): entries whose gradient is rounding noise may move by lr either way.
            grad = np.abs(names(steps[1])[name])
            sure = (grad > 1e-6) | (grad == 0)
            np.testing.assert_allclose(after[name][sure], golden[key][sure], rtol=0, atol=2e-6, err_msg=name)
            assert sure.mean() > 0.9, name


def test_unused_mask_tokens_do_not_decay(steps, weights):
    after = names(steps[2])
    for i in (1, 2):
        name = f"predictor.mask_tokens.{i}"
        np.testing.assert_array_equal(after[name], weights[name])
    assert np.abs(after["predictor.mask_tokens.0"] - weights["predictor.mask_tokens.0"]).max() > 1e-4


def test_ema(golden, steps):
    after = names(steps[2])
    for key in golden.files:
        if key.startswith("ema1/"):
            name = key.removeprefix("ema1/")
            got = ema(golden[f"teacher/{name}"], golden[f"after1/encoder.{name}"], jnp.float32(golden["ema"]))
            np.testing.assert_allclose(got, golden[key], rtol=0, atol=1e-6, err_msg=name)
            got = ema(golden[f"teacher/{name}"], after[f"encoder.{name}"], jnp.float32(golden["ema"]))
            np.testing.assert_allclose(got, golden[key], rtol=0, atol=1e-5, err_msg=name)
