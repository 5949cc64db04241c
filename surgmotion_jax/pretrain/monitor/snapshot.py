"""A few held-out clips as the model saw them, kept beside the metrics for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.monitor.heldout import Pictured

SNAPSHOT_FILE = "snapshot.npz"


def write_snapshot(
    workdir: storage.PathLike, config: PretrainConfig, step: int, shown: Pictured, origins: Sequence[str]
) -> None:
    """Writes `snapshot.npz` (names carry the shapes). It holds frames of the videos: treat it as you treat them."""
    grid = config.grid
    clips, rows = shown.score_BxU.shape[0], (grid.height, grid.width)
    cube = (clips, *grid)
    index = np.arange(clips)[:, None]
    target_BxN = np.zeros((clips, grid.tokens), bool)
    target_BxN[index, shown.target_BxM] = True
    error_BxN = np.full((clips, grid.tokens), np.nan, np.float32)
    error_BxN[index, shown.target_BxM] = shown.error_BxM
    file = io.BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        video_BxTxHxWx3=np.round(shown.video01_BxTxHxWx3 * 255).astype(np.uint8),
        saliency_Bxghxgw=shown.score_BxU.reshape(clips, -1, *rows).mean(1),
        fov_Bxghxgw=shown.inside_Bxhxw,
        target_Bxtxghxgw=target_BxN.reshape(cube),
        top_Bxghxgw=shown.top_BxU.reshape(clips, -1, *rows).any(1),
        features_BxtxghxgwxD=shown.features_BxNxC.reshape(*cube, -1),
        error_Bxtxghxgw=error_BxN.reshape(cube),
        patch=config.model.patch,
        tubelet=config.model.tubelet,
        fps=config.data.fps,
        step=step,
        origin=np.array(origins[:clips]),
    )
    storage.write_bytes_atomic(storage.as_path(workdir) / SNAPSHOT_FILE, file.getvalue())
