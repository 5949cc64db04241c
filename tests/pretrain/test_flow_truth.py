"""Motion scores on simulated surgery whose truth is known: a table, and what it must show."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pretrain.motion_scenes import NUISANCES, auroc, motion_scene, tool_tokens
from tests.pretrain.saliency_truth import SIDE, judge, table

SEEDS = range(100, 105)


def test_scenes_are_the_same_operation_at_every_rate_and_nuisances_leave_the_truth_alone():
    fast, slow = (motion_scene(1, fps, (), frames=frames, side=32) for fps, frames in ((4, 5), (1, 2)))
    np.testing.assert_array_equal(fast.tool_TxHxW[[0, 4]], slow.tool_TxHxW)
    spoilt = motion_scene(1, 4, ("glints", "smoke", "light"), frames=5, side=32)
    assert (spoilt.video_TxHxWx3 != fast.video_TxHxWx3)[:, fast.fov_HxW].mean() > 0.9
    np.testing.assert_array_equal(spoilt.tool_TxHxW, fast.tool_TxHxW)
    np.testing.assert_array_equal(spoilt.flow_TxHxWx2, fast.flow_TxHxWx2)
    moved = motion_scene(1, 4, ("pan", "zoom"), frames=5, side=32)
    assert np.abs(moved.flow_TxHxWx2 - fast.flow_TxHxWx2)[:, fast.fov_HxW].mean() > 0.1
    assert 0 < tool_tokens(fast, 8).max() <= 1


def test_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.3
    pairs = score[positive][:, None] - score[~positive]
    assert auroc(score, positive) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert np.isnan(auroc(score, np.ones(40, bool)))


@pytest.mark.slow
@pytest.mark.parametrize("fps", [25, 4])
def test_flow_finds_the_tool_under_all_nuisances(fps):
    judged = [judge(motion_scene(seed, fps, NUISANCES, side=SIDE)) for seed in SEEDS]
    assert np.median([j.flow for j in judged]) >= 0.95
    assert min(j.flow for j in judged) >= 0.95
    assert np.median([j.error_tissue for j in judged]) < 1


@pytest.mark.slow
def test_print_the_table(capsys):
    lines = table(SEEDS)
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert len(lines) == 1 + 3 * 7
