"""Images beside clips in one step: the share of the gradient, any mesh, the same step after a restart, bad input."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import ModelConfig
from surgmotion_jax.parallel.mesh import to_global
from surgmotion_jax.pretrain import image_branch
from surgmotion_jax.pretrain.config import ObjectiveConfig
from surgmotion_jax.pretrain.image_branch import image_program, mixed_loss, of_images
from surgmotion_jax.pretrain.objective import loss_and_metrics
from surgmotion_jax.pretrain.plan.cost import kept_bytes, step_flops
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.summary import image_line
from surgmotion_jax.pretrain.state import create_state
from surgmotion_jax.pretrain.step import compile_train_step, prepare_shards
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import NANO, random_batch, small_config

WITH_IMAGES = {
    **NANO,
    "model.depth": 2,
    "model.positions": "rope",
    "model.v21.levels": 2,
    "model.v21.rope_grid": 4,
    "model.v21.modality": True,
    "model.v21.context_projection": True,
    "loss.context.weight": 0.5,
    "loss.motion.alpha": 0.0,
    "loss.affinity.weight": 0.0,
    "saliency.kind": "none",
    "saliency.fov": "none",
    "images.batch": 16,
    "images.share": 0.25,
    "images.canvas": (64, 64),
    "images.crop": 64,
    "images.context": 0.75,
}


@pytest.fixture(scope="module")
def config():
    return small_config(**WITH_IMAGES)


def both(config, seed=0):
    """Clips, and images with them."""
    single = of_images(config)
    images = dataclasses.replace(single, data=dataclasses.replace(single.data, frames=4))
    frames = random_batch(images, config.images.batch, seed)
    first = frames._replace(video_BxTxHxWx3=frames.video_BxTxHxWx3[:, :1], valid_BxT=frames.valid_BxT[:, :1])
    return random_batch(config, config.optim.batch, seed)._replace(images=first)


def test_an_image_is_a_clip_of_one_frame_with_masks_and_loss_of_its_own(config):
    single = of_images(config)
    assert tuple(single.grid) == (1, 4, 4)
    assert single.seed != config.seed
    assert image_program(single).targets == (round(0.65 * 16),)
    weights = {name: settings.weight for name, settings in single.loss.items() if settings.weight}
    assert weights == {"motion": 1.0, "context": 0.75, "pixel": 1.0}
    assert single.loss["motion"].alpha == 0
    assert of_images(small_config(**{**WITH_IMAGES, "images.context": -1.0})).loss["context"].weight == 0.5


def test_the_loss_of_both_is_weighed_by_the_share(config, monkeypatch):
    def found(params, target, prepared, config, layout, step):
        loss = jnp.float32(prepared)
        return loss, {"loss/total": loss, "loss/motion": loss - 1, "gauge/target_std": loss}

    monkeypatch.setattr(image_branch, "loss_and_metrics", found)
    total, metrics = mixed_loss(None, None, 3.0, 7.0, config, None, jnp.int32(0))
    assert total == metrics["loss/total"] == 0.75 * 3 + 0.25 * 7
    assert (metrics["loss/clips"], metrics["loss/images"]) == (3, 7)
    assert (metrics["loss/motion"], metrics["image/motion"], metrics["gauge/target_std"]) == (2, 6, 3)
    assert "image/total" not in metrics


def assert_same_sum(got, want):
    """Equal to 1e-6 of the largest number of a leaf: addends that cancel leave the rounding of their size."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * float(np.abs(want).max()))


@pytest.mark.slow
def test_images_have_their_share_of_the_gradient(config):
    layout = layout_of(1, 1, 1)
    state, batch = create_state(config, layout), both(config)
    program, single = mask_programs(config.mask, config.grid)[0], of_images(config)

    @jax.jit
    def gradients(params, target, batch):
        clips = prepare_shards(batch._replace(images=None), jnp.int32(0), config, program, layout, True)
        images = prepare_shards(batch.images, jnp.int32(0), single, image_program(single), layout, True)
        of_both = jax.grad(lambda p: mixed_loss(p, target, clips, images, config, layout, jnp.int32(0))[0])
        of_clips = jax.grad(lambda p: loss_and_metrics(p, target, clips, config, layout)[0])
        of_images_alone = jax.grad(lambda p: loss_and_metrics(p, target, images, single, layout)[0])
        return of_both(params), of_clips(params), of_images_alone(params)

    mixed, clips, images = gradients(state.params, state.target, batch)
    want = jax.tree.map(lambda c, i: 0.75 * c + 0.25 * i, clips, images)
    jax.tree.map(assert_same_sum, mixed, want)
    tokenizers = {"clips": clips["encoder"], "images": images["encoder"]}
    used = {
        kind: {name for name in ("patch_embed", "image_embed") if np.any(encoder[name]["kernel"])}
        for kind, encoder in tokenizers.items()
    }
    assert used == {"clips": {"patch_embed"}, "images": {"image_embed"}}


def steps(config, shape, count=2):
    """The metrics of some steps on a mesh, and the parameters after them."""
    layout = layout_of(*shape)
    step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    state, logged = create_state(config, layout), []
    for seed in range(count):
        batch = both(config, seed)
        clips = to_global(layout, batch._replace(images=None), config.optim.batch)
        images = to_global(layout, batch.images, config.images.batch)
        state, metrics = step(state, clips._replace(images=images))
        logged.append({name: float(value) for name, value in metrics.items()})
    return logged, jax.device_get(state.params)


@pytest.fixture(scope="module")
def single(config):
    return steps(config, (1, 1, 1))


@pytest.mark.slow
def test_the_loss_is_the_weighted_sum_and_every_part_is_logged(single):
    for metrics in single[0]:
        of_clips, of_images_ = metrics["loss/clips"], metrics["loss/images"]
        assert metrics["loss/total"] == pytest.approx(0.75 * of_clips + 0.25 * of_images_, rel=1e-6)
        assert of_images_ == pytest.approx(metrics["image/motion"] + 0.75 * metrics["image/context"], rel=1e-6)
        assert metrics["optim/skipped"] == 0
    assert single[0][-1]["loss/images"] < single[0][0]["loss/images"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 1, 1), (2, 2, 2)], ids=str)
def test_any_mesh_gives_the_same_steps_and_no_device_is_left_out(config, single, shape):
    logged, params = steps(config, shape)
    for got, want in zip(logged, single[0], strict=True):
        assert got["loss/total"] == pytest.approx(want["loss/total"], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-3), params, single[1])
    images = to_global(layout_of(*shape), both(config).images, config.images.batch)
    rows = {shard.data.shape[0] for shard in images.video_BxTxHxWx3.addressable_shards}
    assert rows == {16 // (shape[0] * shape[1])}, "every device has images of its own"


@pytest.mark.slow
def test_micro_batches_give_the_same_gradient(config):
    plain = {**WITH_IMAGES, "loss.diversity.weight": 0.0}
    whole, _ = steps(small_config(**plain), (2, 1, 1))
    parts, _ = steps(small_config(**plain, **{"optim.accumulate": 4}), (2, 1, 1))
    np.testing.assert_allclose([m["loss/total"] for m in parts], [m["loss/total"] for m in whole], rtol=1e-5)


def test_operations_and_memory_count_the_images(config):
    program = mask_programs(config.mask, config.grid)
    alone = dataclasses.replace(config, images=dataclasses.replace(config.images, batch=0))
    single = of_images(config)
    images = step_flops(single, [image_program(single)])
    assert step_flops(config, program).model == step_flops(alone, program).model + images.model
    more = kept_bytes(single, image_program(single), 2 * 16 / 8)
    assert kept_bytes(config, program[0], 2) == kept_bytes(alone, program[0], 2) + more
    assert image_line(alone) == {}
    text = image_line(config)["images"]
    assert "16 a step, 64 x 64 px, 6 context + 10 target tokens, 25 % of the gradient" in text


def test_images_that_the_mesh_cannot_spread_are_refused(config):
    with pytest.raises(ValueError, match=r"images.batch 16 is not divisible by 32"):
        check(small_config(**WITH_IMAGES, **{"optim.batch": 32, "optim.accumulate": 4}), layout_of(8, 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.v21.modality": False}, r"images.batch is 16, but the model has no tokenizer of images"),
        ({"images.share": 1.0}, r"images.share is 1; images and clips both need a share"),
        ({"images.context": -2.0}, r"images.context is -2; give a weight"),
        ({"images.crop": 40}, r"images.crop 40 must be a multiple of model.patch 16"),
        ({"images.crop": 80}, r"images.crop 80 must be .* at most images.canvas \(64, 64\)"),
        ({"images.batch": 15, "optim.accumulate": 2}, r"images.batch 15 is not divisible by optim.accumulate 2"),
        ({"images.target": 0.01}, r"images.target: a share of 0.01 of 16 tubes \(4 x 4\) hides 0"),
        ({"images.spatial": (0.5, 0.1)}, r"images.spatial is \(0.5, 0.1\)"),
        (
            {
                "objective.kind": "pixel",
                "loss.affinity.weight": 0.0,
                "loss.diversity.weight": 0.0,
                "loss.context.weight": 0.0,
            },
            r"images.batch is 16, but objective.kind is 'pixel'",
        ),
    ],
)
def test_images_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(**{**WITH_IMAGES, **changes})


def test_a_teacher_that_takes_no_images_is_refused(config):
    teacher = {"targets": "frozen", "teacher": "weights/vjepa2_l", "teacher_model": ModelConfig()}
    objective, optim = ObjectiveConfig(**teacher), dataclasses.replace(config.optim, ema=1.0, final_ema=1.0)
    with pytest.raises(ValueError, match=r"the frozen teacher weights/vjepa2_l has no tokenizer of images"):
        dataclasses.replace(config, objective=objective, optim=optim)


def test_without_images_nothing_of_them_is_read():
    assert small_config(**{"images.crop": 33}).images.crop == 33
