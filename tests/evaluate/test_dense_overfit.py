"""Dense heads learn eight simulated images by heart: masks of instruments, and depth in millimetres."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from surgmotion_jax.evaluate.config import Grid
from surgmotion_jax.evaluate.heads import targets
from surgmotion_jax.evaluate.heads.networks import make_head
from surgmotion_jax.evaluate.heads.sweep import Batch, Sweep, SweepSettings
from surgmotion_jax.evaluate.metrics.depth import depth_sums, per_image
from surgmotion_jax.evaluate.metrics.overlap import dice_and_iou
from surgmotion_jax.models.dense_head import DenseHeadConfig
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.simulate.render import render
from tests.simulate.hand_script import hand_script

pytestmark = pytest.mark.slow
SIDE, PATCH = 64, 8


def two_layers(video_BxHxWx3):
    """Pixels of each patch, and their squares, in the place of two encoder layers: [2,B,1,h,w,D]."""
    count, cells = len(video_BxHxWx3), SIDE // PATCH
    split = (video_BxHxWx3 / 127.5 - 1).reshape(count, cells, PATCH, cells, PATCH, 3).swapaxes(2, 3)
    patches = split.reshape(count, 1, cells, cells, -1).astype(np.float32)
    return np.stack([patches, patches**2])


@pytest.fixture(scope="module")
def frames():
    """Another tissue and another moment in each."""
    scripts = [hand_script(8, seed=seed, moving=True, height=SIDE, width=SIDE, lesion=True) for seed in range(8)]
    return [next(render(script, n, n + 1, truth=False)) for n, script in enumerate(scripts)]


def learn(frames, objective, target, mask, steps, **config):
    """Predictions of one head for the images it was trained on, before and after."""
    features = two_layers(np.stack([frame.video_HxWx3 for frame in frames]))
    size = DenseHeadConfig(features.shape[-1], (SIDE, SIDE), 2, projection=64, channels=(32, 16, 8), **config)
    settings = SweepSettings(steps, Grid((1e-2,), (0.01,)))
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    sweep, batch = Sweep(make_head("dense", size), objective, settings, layout), Batch(features, target, mask)
    sweep.prepare(batch)
    start = sweep.init()
    before = np.asarray(objective.predict(sweep.outputs(start, features)))[0]
    after = sweep.train(start, [batch] * steps)
    return before, np.asarray(objective.predict(sweep.outputs(after, features)))[0]


def test_segmentation_reaches_a_dice_of_95_percent(frames):
    truth = np.stack([frame.instrument_HxW > 0 for frame in frames])
    before, after = learn(frames, targets.segmentation(), truth, np.ones_like(truth), 220)
    dice = [np.mean([dice_and_iou(y, p)[0] for y, p in zip(truth, out, strict=True)]) for out in (before, after)]
    assert dice[0] < 0.5
    assert dice[1] > 0.95


def test_depth_reaches_a_relative_error_of_5_percent(frames):
    truth = np.stack([frame.depth_HxW for frame in frames])
    valid = truth > 0
    assert 0 < valid.mean() < 1
    scale = float(np.median(truth[valid]))
    before, after = learn(frames, targets.depth(scale), truth, valid, 120, output="depth", scale=scale)
    images = [[depth_sums(d, p, m) for d, p, m in zip(truth, out, valid, strict=True)] for out in (before, after)]
    errors = [per_image(sums)["abs_rel"] for sums in images]
    assert errors[0] > 0.15
    assert errors[1] < 0.05
