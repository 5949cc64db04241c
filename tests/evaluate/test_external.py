"""Grids of features that another encoder computed, for masks and depth. Other features: tests/evaluate/test_run.py."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.evaluate.features.external import ExternalFeatures
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.features.windows_of_cases import Position


def test_grids_of_another_encoder_serve_masks_and_depth(tmp_path):
    case = Case("a", "a", ImageFrames(()), np.arange(3.0))
    grid = np.arange(3 * 2 * 4 * 5.0).reshape(3, 2, 4, 5)
    for features, layers in ((grid, 1), (np.stack([grid, -grid], 1), 2)):
        (tmp_path / "a.npz").write_bytes(to_npz({"features": features[::-1], "time": case.times_N[::-1]}))
        found = ExternalFeatures(str(tmp_path), [case], "layers")
        assert found.shape == (layers, 1, 2, 4, 5)
        np.testing.assert_array_equal(found.rows([Position(0, 1)])[0, :, 0], features.reshape(3, layers, 2, 4, 5)[1])
    (tmp_path / "a.npz").write_bytes(to_npz({"features": grid.reshape(3, -1, 5), "time": case.times_N}))
    with pytest.raises(
        ValueError, match=r"a.npz: features \(3, 8, 5\); masks and depth are read from grids of patches"
    ):
        ExternalFeatures(str(tmp_path), [case], "layers")
