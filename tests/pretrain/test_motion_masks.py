"""Masks drawn where saliency is high: the counts of every kind of mask, uniform where saliency says nothing."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, to_global
from surgmotion_jax.pretrain.objective import sample_keys
from surgmotion_jax.pretrain.sample.masks import Scored, draw_masks, mask_programs
from surgmotion_jax.pretrain.sample.motion_masks import MotionMasks, tube_logits
from surgmotion_jax.pretrain.sample.tube_masks import TubeMasks
from surgmotion_jax.pretrain.step import abstract_batch, prepare_shards
from tests.pretrain.fixtures import random_batch, small_config

GRID = Grid(4, 8, 8)
INSIDE = np.ones((8, 8), bool)
CLIPS = 2000
SIGMA = np.sqrt(0.5 * 0.5 / CLIPS)  # of how often a column is hidden, where half of them are


@partial(jax.jit, static_argnames="program")
def masks_of(program, first, score_U, inside_hxw):
    keys = sample_keys(0, 1, first + jnp.arange(CLIPS, dtype=jnp.uint32))
    scored = Scored(jnp.tile(score_U, (CLIPS, 1)), jnp.tile(inside_hxw, (CLIPS, 1, 1)))
    return draw_masks(program, jax.random.key(0), keys, scored)


def draw(score_U, *, inside=INSIDE, temperature=1.0, ratio=0.5, first=0):
    """(program, masks of CLIPS clips that all have the same scores)."""
    (program,) = mask_programs(MotionMasks(ratios=(ratio,), temperature=temperature), GRID)
    (mask,) = masks_of(program, jnp.uint32(first), jnp.float32(score_U), inside)
    return program, mask


def share_hidden(mask):
    """How often each column is hidden, [P], having made sure that columns are hidden whole."""
    step_BxTxP = np.zeros((len(mask.target_BxM), GRID.time, GRID.columns), bool)
    np.put_along_axis(step_BxTxP.reshape(len(step_BxTxP), -1), np.asarray(mask.target_BxM), True, axis=1)
    assert (step_BxTxP == step_BxTxP[:, :1]).all()
    return step_BxTxP[:, 0].mean(0)


@pytest.mark.parametrize("ratio", [0.75, 0.5])
def test_counts_are_those_of_tubes_and_both_sides_make_up_the_clip(ratio):
    program, mask = draw(np.random.default_rng(0).exponential(size=64), ratio=ratio)
    (tube,) = mask_programs(TubeMasks(ratios=(ratio,)), GRID)
    assert program.targets == tube.targets
    assert program.name != tube.name
    assert mask.target_BxM.shape == (CLIPS, *tube.targets)
    both = np.concatenate([mask.context_BxK, mask.target_BxM], axis=1)
    np.testing.assert_array_equal(np.sort(both, axis=1), np.tile(np.arange(GRID.tokens), (CLIPS, 1)))
    assert len({tuple(row) for row in np.asarray(mask.target_BxM)}) > 0.99 * CLIPS, "samples must get different masks"


def test_a_mask_depends_on_its_sample_alone():
    score = np.random.default_rng(1).exponential(size=64)
    _, together = draw(score)
    _, apart = draw(score, first=4)
    np.testing.assert_array_equal(together.target_BxM[4:], apart.target_BxM[:-4])


@pytest.mark.parametrize("value", [0.0, 0.3, 1e6])
def test_equal_scores_draw_uniformly(value):
    outside = INSIDE.copy()
    outside[:, :2] = False
    _, mask = draw(np.full(64, value), inside=outside)
    assert np.abs(share_hidden(mask) - 0.5).max() < 4.5 * SIGMA


def test_the_more_salient_tube_is_hidden_more_often():
    score = np.linspace(0, 1, 64)
    _, mask = draw(score)
    share_P = share_hidden(mask)
    eighth = share_P.reshape(8, 8).mean(1)
    assert (np.diff(eighth) > 0).all()
    assert eighth[-1] > 0.75
    assert eighth[0] < 0.25


def test_temperature_goes_from_the_most_salient_alone_to_any():
    score = np.random.default_rng(2).permutation(np.linspace(0, 1, 64))
    _, mask = draw(score, temperature=1e-3)
    np.testing.assert_array_equal(share_hidden(mask), score > np.median(score))
    _, mask = draw(score, temperature=1e3)
    assert np.abs(share_hidden(mask) - 0.5).max() < 4.5 * SIGMA


def test_tubes_outside_the_field_of_view_are_never_favoured():
    inside = INSIDE.copy()
    inside[[0, -1]] = False
    score = np.linspace(0.1, 1, 64)
    score[~inside.reshape(-1)] = 50.0
    _, mask = draw(score, inside=inside)
    share_P, flat = share_hidden(mask), inside.reshape(-1)
    assert share_P[~flat].max() <= share_P[flat].min() + 4.5 * SIGMA
    assert (share_P[~flat] > 0).all(), "they must be drawn at times, for the counts are fixed"


jit_logits = jax.jit(tube_logits)


@pytest.mark.parametrize("score", [np.zeros(64), np.full(64, 1e-30), np.eye(1, 64)[0] * 1e15, np.arange(256.0)])
@pytest.mark.parametrize("seen", ["all", "one", "none"])
def test_logits_are_finite_and_bounded_whatever_the_scores(score, seen):
    inside = np.zeros((1, 8, 8), bool)
    inside[0, : {"all": 8, "one": 1, "none": 0}[seen], : {"all": 8, "one": 1, "none": 0}[seen]] = True
    logits = np.asarray(jit_logits(jnp.float32(score)[None], inside, 0.5))
    assert logits.shape == (1, 64)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() <= 6
    if seen != "all":
        np.testing.assert_array_equal(logits, 0)


def test_scores_of_tubelets_count_by_their_mean_over_time():
    rng = np.random.default_rng(3)
    score_TxP = rng.exponential(size=(4, 64))
    inside = jnp.ones((1, 8, 8), bool)
    of_tubelets = tube_logits(jnp.float32(score_TxP.reshape(1, -1)), inside, 1.0)
    of_columns = tube_logits(jnp.float32(score_TxP.mean(0)[None]), inside, 1.0)
    np.testing.assert_allclose(of_tubelets, of_columns, atol=1e-5)


def test_kinds_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"mask.kind is 'motion'.*saliency.kind is 'none'.*saliency.kind=paper"):
        small_config(**{"mask.kind": "motion", "saliency.kind": "none", "loss.motion.scope": "dense"})
    with pytest.raises(ValueError, match=r"mask.temperature is 0.0; it must be greater than 0"):
        MotionMasks(temperature=0.0)
    with pytest.raises(ValueError, match=r"mask.ratios is empty"):
        MotionMasks(ratios=())


COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def test_flow_and_motion_masks_need_no_communication():
    flags = {
        "mask.kind": "motion",
        "saliency.kind": "flow",
        "data.frames": 4,
        "augment.crop": 32,
        "mask.ratios": (0.5,),
    }
    config = small_config(**flags)
    layout = MeshLayout(make_mesh(ParallelConfig(2, 2, 1), jax.devices()[:4]))
    (program,) = mask_programs(config.mask, config.grid)

    def prepare(batch, step):
        return prepare_shards(batch, step, config, program, layout, training=True)

    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=layout.replicated)
    compiled = jax.jit(prepare).lower(abstract_batch(config, layout, 4), step).compile()
    assert not [c for c in COLLECTIVES if c in compiled.as_text()]
    batch = to_global(layout, random_batch(config, 4), 4)
    total = jax.jit(jnp.sum).lower(batch.valid_BxT).compile().as_text()
    assert "all-reduce" in total, "a sum over the batch must show up, or the search finds nothing"
    prepared = compiled(batch, jax.device_put(np.int32(3), layout.replicated))
    assert np.asarray(prepared.score_BxU).std(1).min() > 0
    assert prepared.masks[0].target_BxM.shape == (4, 2 * 2)
