"""Training V-JEPA 2.1 from converted weights at another crop and clip length, on any mesh, and after a restart."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import CheckpointMismatch
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.weights import save_weights
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.reference_names import encoder_from_facebook, predictor_from_facebook
from surgmotion_jax.parallel.mesh import to_global
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.objective import loss_and_metrics
from surgmotion_jax.pretrain.sample.masks import MaskSet, mask_programs
from surgmotion_jax.pretrain.setup.initial import plan_initial, start_from
from surgmotion_jax.pretrain.state import create_state
from surgmotion_jax.pretrain.step import compile_train_step
from tests.models.test_parity21 import MODEL, channels_last
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import random_batch, small_config
from tests.pretrain.test_trainstep_parity21 import WITHOUT, masks_of, prepared_for, prepared_of

GOLDEN = Path(__file__).parents[1] / "golden"
# The architecture of the golden weights, which were made for 8 frames of 32 px.
ARCHITECTURE = {
    **{f"model.{name}": getattr(MODEL, name) for name in ("depth", "width", "heads", "mlp", "positions")},
    **{f"model.predictor.{name}": getattr(MODEL.predictor, name) for name in ("width", "depth", "heads", "mlp")},
    **{f"model.v21.{name}": getattr(MODEL.v21, name) for name in ("levels", "rope_grid", "modality")},
    "model.predictor.mask_tokens": 2,
    "model.v21.context_projection": True,
}
ELSEWHERE = {
    **ARCHITECTURE,
    "loss.context.weight": 0.5,
    "data.frames": 4,
    "data.canvas": (80, 80),
    "augment.crop": 64,
    "optim.warmup_steps": 20,
    "steps": 300,
}


FIXTURE = {"data.frames": 8, "data.canvas": (32, 32), "augment.crop": 32}
# Weights of 384 px, a grid of 24, go on at 256 px.
AT_384 = dataclasses.replace(MODEL, v21=dataclasses.replace(MODEL.v21, rope_grid=24))
AT_256 = {**ELSEWHERE, "model.v21.rope_grid": 24, "data.canvas": (288, 288), "augment.crop": 256, "optim.batch": 2}


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights") / "vjepa21", MODEL)


def saved(folder, model):
    """The golden weights as converted ones of a model: encoder, its teacher and predictor of different numbers."""
    core, step = (np.load(GOLDEN / f"{name}.npz") for name in ("vjepa21_fb", "trainstep21_fb"))
    weights = {k.removeprefix("w/"): core[k] for k in core.files if k.startswith("w/")}
    teacher = {k.removeprefix("teacher/"): step[k] for k in step.files if k.startswith("teacher/")}
    leaves = {
        "params": {
            "encoder": encoder_from_facebook(weights, 2, "encoder."),
            "predictor": predictor_from_facebook(weights, 2, "predictor."),
        },
        "target": encoder_from_facebook(teacher, 2),
    }
    save_weights(folder, leaves, ManifestFields("weights", architecture(model), {}))
    return folder


def continued(config, converted, shape=(1, 1, 1)):
    """A state of the converted weights on a mesh, and the compiled step."""
    layout = layout_of(*shape)
    initial = plan_initial(InitConfig(checkpoint=str(converted)), config.model)
    state = start_from(initial, create_state(config, layout))
    step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    return state, lambda state, batch: step(state, to_global(layout, batch, config.optim.batch))


def losses(config, converted, count, shape=(1, 1, 1)):
    """The losses of some steps on different clips, and the last state."""
    state, step = continued(config, converted, shape)
    found = []
    for seed in range(count):
        state, metrics = step(state, random_batch(config, config.optim.batch, seed % 8))
        assert metrics["optim/skipped"] == 0, "finite"
        found.append(float(metrics["loss/total"]))
    return found, state


@pytest.fixture(scope="module")
def single(converted):
    return losses(small_config(**ELSEWHERE), converted, 3)


@pytest.mark.slow
def test_converted_weights_go_on_at_another_crop_and_clip_length(single, converted):
    found, state = single
    assert np.isfinite(found).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    again, _ = losses(small_config(**ELSEWHERE), converted, 3)
    assert again == found, "the same bits from the same start"


@pytest.mark.slow
def test_the_first_loss_from_converted_weights_is_pytorchs(converted):
    core, step = (np.load(GOLDEN / f"{name}.npz") for name in ("vjepa21_fb", "trainstep21_fb"))
    layout = layout_of(1, 1, 1)
    config = small_config(**{**ELSEWHERE, **FIXTURE, **WITHOUT})
    initial = plan_initial(InitConfig(checkpoint=str(converted)), config.model)
    state = start_from(initial, create_state(config, layout))
    loss = jax.jit(partial(loss_and_metrics, prepared=prepared_of(step, core, "video"), config=config, layout=layout))
    _, metrics = loss(state.params, state.target)
    want = step["video_loss_pred_0"] + 0.5 * step["video_loss_ctx_0"]
    np.testing.assert_allclose(metrics["loss/total"], want, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)], ids=str)
def test_any_mesh_gives_the_same_steps(single, converted, shape):
    assert MODEL.heads % shape[2] == 0
    found, _ = losses(small_config(**ELSEWHERE), converted, 3, shape)
    np.testing.assert_allclose(found, single[0], rtol=1e-5)


@pytest.mark.slow
def test_three_hundred_steps_from_384_to_256_pixels_are_finite_and_the_loss_falls(tmp_path):
    weights = saved(tmp_path / "at384", AT_384)
    found, state = losses(small_config(**AT_256, **{"loss.context.rise": (20, 40)}), weights, 300)
    assert np.isfinite(found).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert np.mean(found[-50:]) < 0.8 * np.mean(found[40:60])


@pytest.mark.oracle
@pytest.mark.parametrize("pixels", [32, 256])
def test_the_first_loss_is_pytorchs_at_the_sizes_of_the_fixture_and_of_the_run(pixels, tmp_path):
    """At 32 px the peer gives the fixture's losses, at 256 px, with weights of 384 px, those that it lacks."""
    torch = pytest.importorskip("torch")
    from tests.pretrain.torch_vjepa21 import Peer

    core, step = (np.load(GOLDEN / f"{name}.npz") for name in ("vjepa21_fb", "trainstep21_fb"))
    model, sizes = (AT_384, AT_256) if pixels == 256 else (MODEL, {**ELSEWHERE, **FIXTURE})
    config = small_config(**{**sizes, **WITHOUT})
    masks = masks_of(step, "video") if pixels == 32 else drawn_masks(config.grid)
    clip = core["video"] if pixels == 32 else np.random.default_rng(0).normal(size=(2, 3, 4, 256, 256))
    clip = clip.astype(np.float32)

    peer = {
        prefix: {k.removeprefix(prefix): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith(prefix)}
        for prefix, arrays in (("w/", core), ("teacher/", step))
    }
    pairs = [tuple(torch.from_numpy(np.array(ids)).long() for ids in mask) for mask in masks]
    shape = config.grid.time, config.grid.height, config.grid.width
    network = Peer(torch, peer["w/"], shape, model.v21.rope_grid, model.heads)
    predicted, visible = network.losses(peer["teacher/"], torch.from_numpy(clip), pairs)
    if pixels == 32:
        np.testing.assert_allclose(predicted, step["video_loss_pred_0"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(visible, step["video_loss_ctx_0"], rtol=0, atol=1e-5)

    initial = plan_initial(InitConfig(checkpoint=str(saved(tmp_path / "weights", model))), config.model)
    state = start_from(initial, create_state(config, layout_of(1, 1, 1)))
    prepared = prepared_for(channels_last(clip), masks, config)
    loss = jax.jit(partial(loss_and_metrics, prepared=prepared, config=config, layout=layout_of(1, 1, 1)))
    _, metrics = loss(state.params, state.target)
    np.testing.assert_allclose(metrics["loss/total"], predicted + 0.5 * visible, rtol=0, atol=1e-5)


def drawn_masks(grid):
    """Two sets that hide three and nine tenths."""
    rng, sets = np.random.default_rng(1), []
    for share in (0.3, 0.9):
        count = round(grid.tokens * (1 - share))
        orders = np.stack([rng.permutation(grid.tokens) for _ in range(2)]).astype(np.int32)
        sets.append(MaskSet(jnp.asarray(np.sort(orders[:, :count])), jnp.asarray(np.sort(orders[:, count:]))))
    return tuple(sets)


def test_a_distilled_predictor_is_refused_by_its_fields(converted):
    distilled = {"model.v21.output_levels": 1}
    config = small_config(**ELSEWHERE, **distilled)
    with pytest.raises(CheckpointMismatch, match=r"model\.v21\.output_levels"):
        plan_initial(InitConfig(checkpoint=str(converted)), config.model)
    parts = ("encoder", "target")
    told = plan_initial(InitConfig(checkpoint=str(converted), parts=parts), config.model).told
    assert any("predictor: freshly initialised" in line for line in told)
