"""Static counts, coverage in time, independence of batch and mesh, block sizes of the PyTorch sampler."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.models.config import Grid
from surgmotion_jax.pretrain.objective import sample_keys
from surgmotion_jax.pretrain.sample.block_masks import BlockMasks, BlockSet, block_priority, block_size
from surgmotion_jax.pretrain.sample.masks import draw_masks, mask_programs, program_of_step
from surgmotion_jax.pretrain.sample.tube_masks import TubeMasks

GRID = Grid(8, 14, 14)
GOLDEN = Path(__file__).parents[1] / "golden"


def draw(config, count=16, step=0, grid=GRID, first=0):
    program = mask_programs(config, grid)[0]
    keys = sample_keys(0, 1, jnp.arange(first, first + count, dtype=jnp.uint32))
    return program, jax.jit(lambda s, k: draw_masks(program, s, k))(jax.random.key(step), keys)


KINDS = [
    TubeMasks(ratios=(0.9,)),
    BlockMasks(),
    BlockMasks(sets={"a": BlockSet(3, (0.2, 0.4), temporal=(0.3, 0.6), target=0.5)}),
]


@pytest.mark.parametrize("config", KINDS, ids=["tube", "two sets", "short blocks"])
def test_context_and_target_partition_the_clip_with_static_counts(config):
    program, sets = draw(config)
    assert len(sets) == len(program.targets)
    for mask, count in zip(sets, program.targets, strict=True):
        assert mask.target_BxM.shape == (16, count)
        both = np.concatenate([mask.context_BxK, mask.target_BxM], axis=1)
        np.testing.assert_array_equal(np.sort(both, axis=1), np.tile(np.arange(GRID.tokens), (16, 1)))
        assert (np.diff(mask.target_BxM, axis=1) > 0).all()
        assert len({tuple(row) for row in np.asarray(mask.target_BxM)}) > 12, "samples must get different masks"


def test_tubes_are_whole_columns():
    _, (mask,) = draw(TubeMasks(ratios=(0.75,)))
    per_column = np.stack([np.bincount(row % GRID.columns, minlength=GRID.columns) for row in mask.target_BxM])
    assert set(np.unique(per_column)) == {0, GRID.time}


def test_blocks_cover_every_time_step_alike():
    """Where PyTorch keeps the first tokens in raster order, thinning and topping up here take whole columns."""
    _, sets = draw(BlockMasks(), count=64)
    for mask in sets:
        steps = np.stack([np.bincount(row // GRID.columns, minlength=GRID.time) for row in mask.target_BxM])
        assert (steps == steps[:, :1]).all()
    truncated = sets[0].target_BxM[:, : sets[0].target_BxM.shape[1] * 3 // 4]
    counts = np.bincount(np.asarray(truncated[0]) // GRID.columns, minlength=GRID.time)
    assert counts[-1] == 0, "raster truncation, for comparison, does lose the end of the clip"


def test_thinning_takes_the_same_share_of_every_step():
    grid = Grid(8, 10, 10)
    size = tuple(map(jnp.asarray, (5, 6, 6)))
    priority = np.asarray(block_priority(jax.random.key(3), size, 3, grid)).reshape(grid.time, -1)
    inside = (priority > 0).sum(1)
    keep = int(0.5 * inside.sum())
    chosen = np.argsort(-priority.reshape(-1), kind="stable")[:keep] // grid.columns
    kept = np.bincount(chosen, minlength=grid.time)
    assert len(set(inside[inside > 0])) > 1, "steps must differ for the test to say anything"
    assert np.abs(kept - inside * keep / inside.sum()).max() <= 1


def test_topping_up_takes_the_nearest_tokens():
    grid = Grid(4, 8, 8)
    priority = np.asarray(block_priority(jax.random.key(0), tuple(map(jnp.asarray, (4, 2, 2))), 1, grid))
    inside = priority > 0
    assert inside.sum() == 16
    place = np.stack(np.unravel_index(np.arange(grid.tokens), tuple(grid)))
    distance = np.linalg.norm(place[:, :, None] - place[:, inside][:, None], axis=0).min(1)
    order = np.argsort(-priority, kind="stable")
    assert (np.diff(distance[order]) >= -1e-6).all()


def test_masks_depend_on_the_sample_alone():
    _, together = draw(BlockMasks(), count=8)
    _, apart = draw(BlockMasks(), count=4, first=4)
    np.testing.assert_array_equal(together[0].target_BxM[4:], apart[0].target_BxM)


def test_block_sizes_equal_the_pytorch_sampler():
    golden = np.load(GOLDEN / "masks_fb.npz")
    rows = golden["size_rows"]
    assert len(rows) == 400
    for _, scale, u_t, u_s, u_a, t, h, w in rows:
        spec = BlockSet(1, (scale, scale), aspect=(0.75, 1.5))
        size = block_size(jnp.array([u_t, u_s, u_a], jnp.float32), spec, Grid(8, 16, 16))
        assert tuple(map(int, size)) == (t, h, w)


def test_one_program_per_ratio_drawn_by_step():
    programs = mask_programs(TubeMasks(), GRID)
    assert [p.targets[0] for p in programs] == [8 * round(r * 196) for r in (0.75, 0.8, 0.85, 0.9, 0.95)]
    drawn = [program_of_step(programs, 0, s).name for s in range(200)]
    assert drawn == [program_of_step(programs, 0, s).name for s in range(200)]
    assert drawn != [program_of_step(programs, 1, s).name for s in range(200)]
    assert min(drawn.count(p.name) for p in programs) > 20


@pytest.mark.parametrize("ratio", [0.001, 0.9999])
def test_a_ratio_that_hides_nothing_or_everything_is_refused(ratio):
    with pytest.raises(ValueError, match=r"mask.ratios.*at least 1 and at most 195"):
        mask_programs(TubeMasks(ratios=(ratio,)), GRID)
