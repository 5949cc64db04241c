"""An encoder that is trained with its head: what is trained and how fast, on any devices, interrupted or not."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from etils import epath

from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.evaluate.config import DataConfig, FinetuneConfig, SweepConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.cache import Wanted
from surgmotion_jax.evaluate.features.windows_of_cases import Position
from surgmotion_jax.evaluate.finetune.network import make_network
from surgmotion_jax.evaluate.finetune.predictor import TunedPredictor
from surgmotion_jax.evaluate.finetune.scope import Divided, divided, rate_shares, trained_blocks, whole
from surgmotion_jax.evaluate.finetune.step import Needs, Tuning
from surgmotion_jax.evaluate.finetune.training import Candidates, filled, train_candidates
from surgmotion_jax.evaluate.heads.fit import Batches, TrainingSet
from surgmotion_jax.evaluate.heads.networks import LinearConfig, make_head
from surgmotion_jax.evaluate.heads.of_tasks import PIXELS
from surgmotion_jax.evaluate.heads.optimizer import warmed_cosine
from surgmotion_jax.evaluate.heads.targets import classification
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.evaluate.encoders import small_encoder

DATA = DataConfig(frames=2, size=16)
CLIPS, CLASSES = 16, ("cut", "clip", "clean", "pack")
LABEL_N = np.arange(CLIPS) % len(CLASSES)
SWEEP = SweepConfig((1e-2,), (0.01,), epochs=2, batch=8, save_every=1)
PLAIN = FinetuneConfig("full", layer_decay=0.5, warmup=0.0, clip=0.0)


class Noise:
    """Clips of noise in the place of windows: nothing but learning them by heart tells their classes."""

    shape = (2, 16, 16, 3)

    def __init__(self):
        self._video = np.random.default_rng(0).integers(0, 256, (CLIPS, *self.shape), dtype=np.uint8)

    def rows(self, positions):
        return self._video[[position.row for position in positions]]


def truths():
    def rows(positions):
        label = LABEL_N[[position.row for position in positions]]
        return {"label": label, "mask": np.ones(len(label), bool)}

    return SimpleNamespace(rows=rows)


def batches(batch=8):
    positions = tuple(Position(0, row) for row in range(CLIPS))
    return Batches(TrainingSet(positions, Noise(), truths()), PIXELS, batch, seed=0)


def layout_of(**mesh):
    count = int(np.prod(list(mesh.values()), initial=1))
    return MeshLayout(make_mesh(ParallelConfig(**{"data": 1, **mesh}), jax.devices()[:count]))


@functools.cache
def tuning(settings=PLAIN, steps=4, layout=None):
    """The small encoder with a linear head, to be trained on the clips; it holds no state, so that tests share it."""
    encoder = encoder_of()
    if layout is not None:
        params = jax.device_put(encoder.params, layout.replicated)
        encoder = FrozenEncoder(encoder.config, params, encoder.origin, layout)
    head = make_head("linear", LinearConfig(48, len(CLASSES)))
    network = make_network(encoder, head, Wanted("pooled"), settings, DATA)
    return Tuning(network, classification(LABEL_N, CLASSES, "none"), steps)


def trained(folder, made, sweep=SWEEP, say=lambda text: None):
    """Parameters of all candidates, as nested dicts."""
    candidates = Candidates(made, program(made, sweep.batch), epath.Path(folder))
    return train_candidates(candidates, batches(sweep.batch), sweep, say)


@functools.cache
def program(made, batch):
    """The step, compiled once however often it is begun."""
    return made.compiled(filled(next(batches(batch).from_step(0, 1)), made))


@functools.cache
def encoder_of():
    return small_encoder()


@functools.cache
def params_of():
    return jax.tree.map(np.asarray, encoder_of().params)


def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


# ---- what is trained ----


@pytest.mark.parametrize("blocks", [None, 1, 2])
def test_the_parts_of_an_encoder_make_the_whole_again(blocks):
    params = params_of()
    parts = divided(params, blocks)
    again = whole(parts)
    assert leaves_by_path(again).keys() == leaves_by_path(params).keys()
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_the_last_blocks_are_trained_with_the_norm_and_nothing_else():
    parts = divided(params_of(), 1)
    assert set(parts.trained) == {"trunk", "norm"}
    assert {leaf.shape[0] for leaf in jax.tree.leaves(parts.trained["trunk"])} == {1}
    assert set(parts.frozen) == {"patch_embed", "trunk"}
    assert divided(params_of(), None).frozen == {}


def test_rates_fall_from_the_head_to_the_embedding():
    """Two blocks: 1 for head and norm, .5 for the last block, .25 for the first, .125 for the embedding."""
    shares = rate_shares({"encoder": params_of(), "head": {"kernel": np.zeros(3)}}, 0.5, depth=2)
    encoder = shares["encoder"]
    assert float(shares["head"]["kernel"]) == 1
    assert {float(leaf) for leaf in jax.tree.leaves(encoder["norm"])} == {1}
    assert {tuple(np.ravel(leaf).tolist()) for leaf in jax.tree.leaves(encoder["trunk"])} == {(0.25, 0.5)}
    assert {float(leaf) for leaf in jax.tree.leaves(encoder["patch_embed"])} == {0.125}


def test_rates_rise_evenly_and_fall_to_nothing():
    rates = [float(warmed_cosine(np.int32(step), 12, 0.25, np.float32(0.8))) for step in range(13)]
    np.testing.assert_allclose(rates[:4], [0.8 / 3, 1.6 / 3, 0.8, 0.8], rtol=1e-6)
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))
    assert rates[12] == pytest.approx(0, abs=1e-7)
    assert float(warmed_cosine(np.int32(0), 12, 0.0, np.float32(0.8))) == pytest.approx(0.8)


def test_one_update_moves_every_part_by_its_share_of_the_rate():
    """The first update of Adam is the rate, up or down, wherever there is a gradient."""
    made = tuning()
    start = jax.tree.map(np.asarray, made.network.init(made.network.start.trained, jax.random.key(0)))
    state, batch = made.fresh(made.network.start.trained, jax.random.key(0)), next(batches().from_step(0, 1))
    state, _ = program(made, 8)(jax.device_put(state), made.network.frozen, np.array([1e-3, 0.0], np.float32), batch)
    moved = jax.tree.map(lambda new, old: np.abs(new - old), state.params, start)
    assert largest(moved["head"]) == pytest.approx(1e-3, rel=1e-2)
    blocks = moved["encoder"]["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]
    assert [float(block.max()) for block in blocks] == pytest.approx([0.25e-3, 0.5e-3], rel=1e-2)
    assert largest(moved["encoder"]["patch_embed"]) == pytest.approx(0.125e-3, rel=1e-2)


def test_what_is_frozen_stays_and_is_not_among_the_results(tmp_path):
    made = tuning(dataclasses.replace(PLAIN, blocks="last:1", moments_dtype="bfloat16"))
    found = trained(tmp_path, made)
    assert set(found["encoder"]) == {"trunk", "norm"}
    (candidate,) = TunedPredictor(made.network, made.objective, found, ["one"])._params
    encoder = whole(Divided(made.network.frozen, candidate["encoder"]))
    before = params_of()
    np.testing.assert_array_equal(encoder["patch_embed"]["kernel"], before["patch_embed"]["kernel"])
    kernel, old = encoder["trunk"]["blocks"]["mlp"]["fc1"]["kernel"], before["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(kernel[0], old[0])
    assert (np.asarray(kernel[1]) != old[1]).any()


# ---- however it is run ----


class Stopped(Exception):
    """What interrupts a run here."""


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_interrupted_after_any_step_it_ends_with_the_same_bits(tmp_path, moments):
    made = tuning(dataclasses.replace(PLAIN, moments_dtype=moments, flips=True, shift=0.2))
    sweep = dataclasses.replace(SWEEP, learning_rates=(1e-2, 3e-3))
    said: list[str] = []
    trained(tmp_path / "whole", made, sweep, said.append)
    steps = [text for text in said if text.startswith("step ")]
    assert len(steps) == 6  # after three of four steps of two candidates
    left = iter(range(len(steps)))

    def stop(text):
        if text.startswith("step ") and next(left, None) is not None:
            raise Stopped

    for _ in steps:
        with pytest.raises(Stopped):
            trained(tmp_path / "cut", made, sweep, stop)
    trained(tmp_path / "cut", made, sweep, stop)
    assert (tmp_path / "cut" / "heads.npz").read_bytes() == (tmp_path / "whole" / "heads.npz").read_bytes()
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["heads.npz"]


@pytest.mark.parametrize(
    "mesh", [{"data": 8}, {"data": 2, "fsdp": 2}, {"fsdp": 2, "tensor": 3}], ids=["data", "fsdp", "tensor"]
)
def test_any_mesh_trains_as_one_device_does(tmp_path, mesh):
    """Batches of six are filled up to eight for eight devices; windows are mirrored and moved alike."""
    sweep = dataclasses.replace(SWEEP, batch=6, learning_rates=(3e-3,))
    settings = dataclasses.replace(PLAIN, flips=True, shift=0.2)
    one = trained(tmp_path / "one", tuning(settings, layout=layout_of()), sweep)
    many_tuning = tuning(settings, layout=layout_of(**mesh))
    many = trained(tmp_path / "many", many_tuning, sweep)
    if "fsdp" in mesh:
        kernel = many_tuning.network.abstract["encoder"]["trunk"]["blocks"]["mlp"]["fc1"]["kernel"]
        assert kernel.sharding.shard_shape(kernel.shape) != kernel.shape
    start = params_of()
    assert largest(jax.tree.map(lambda new, old: new[0] - old, one["encoder"], start)) > 1e-3
    for path, leaf in leaves_by_path(one).items():
        np.testing.assert_allclose(leaves_by_path(many)[path], leaf, rtol=0, atol=1e-5, err_msg=path)


def test_sixteen_clips_are_learnt_by_heart(tmp_path):
    made = tuning(dataclasses.replace(PLAIN, layer_decay=0.75), steps=120)
    found = trained(tmp_path, made, SweepConfig((3e-3,), (0.0,), epochs=120, batch=CLIPS, save_every=1000))
    predict = TunedPredictor(made.network, made.objective, found, ["one"])
    (probability_NxC,) = predict(Noise().rows([Position(0, row) for row in range(CLIPS)]))
    assert (probability_NxC.argmax(1) == LABEL_N).all()
    assert probability_NxC[np.arange(CLIPS), LABEL_N].min() > 0.9


def test_a_last_batch_of_predictions_needs_no_multiple_of_the_devices(tmp_path):
    made = tuning(layout=layout_of(data=8))
    start = made.network.init(made.network.start.trained, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[None], start)
    predict = TunedPredictor(made.network, made.objective, params, ["one"])
    rows = Noise().rows([Position(0, row) for row in range(11)])
    assert predict(rows).shape == (1, 11, len(CLASSES))
    np.testing.assert_allclose(predict(rows)[:, :3], predict(rows[:3]), atol=1e-6)


# ---- what cannot be ----


@pytest.mark.parametrize("wrong", ["last:0", "last:-1", "last:", "some", "last:1.5", "Full"])
def test_a_part_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=f"finetune.blocks is '{wrong}'; it must be none .* or last:N"):
        FinetuneConfig(wrong)


def test_more_blocks_than_there_are_are_refused():
    assert trained_blocks("last:2", 2) == 2
    with pytest.raises(ValueError, match="is last:3, but the encoder has 2 blocks; give last:2 or less"):
        trained_blocks("last:3", 2)


def test_what_does_not_fit_is_refused_with_what_it_takes():
    needs = Needs(trained=10, frozen=5, devices=1, arguments=2**30, working=2**31, budget=2**31)
    words = (
        "10 parameters trained, 5 frozen, on 1 devices; memory a device: 3 GiB of 2 GiB, of it 2 GiB of gradients and"
    )
    with pytest.raises(ValueError, match=f"does not fit the devices: {words} activations. Lower sweep.batch"):
        needs.check()
    dataclasses.replace(needs, budget=0).check()  # where nothing is known, nothing is refused
