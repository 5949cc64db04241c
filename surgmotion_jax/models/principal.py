"""Principal axes of features, and levels for looking at them. NumPy only.

Letters: N tokens, D features, K axes kept.
"""

from __future__ import annotations

import numpy as np


def principal_axes(feature_NxD: np.ndarray, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """`(mean_D, basis_DxK)`: orthonormal axes of falling variance, K = min(count, D).

    Each axis is signed so that the third moment along it is positive: the axes depend on how the tokens lie to one
    another, not on the axes that the encoder happens to use.
    """
    mean_D = feature_NxD.mean(axis=0)
    centred_NxD = feature_NxD - mean_D
    _, axes_DxD = np.linalg.eigh(centred_NxD.T @ centred_NxD / len(centred_NxD))
    basis_DxK = axes_DxD[:, ::-1][:, :count]
    sign_K = np.where(((centred_NxD @ basis_DxK) ** 3).sum(axis=0) < 0, -1.0, 1.0)
    return mean_D, basis_DxK * sign_K


def spread(score: np.ndarray, where: np.ndarray, percent: float = 0.0) -> np.ndarray:
    """Scores moved to 0..1 by their range over `where` (less `percent` at either end); 0 where not finite."""
    used = score[where & np.isfinite(score)]
    if used.size == 0:
        return np.zeros(score.shape)
    low, high = np.percentile(used, (percent, 100 - percent))
    scaled = (score - low) / (high - low) if high > low else np.zeros(score.shape)
    return np.nan_to_num(np.clip(scaled, 0, 1))
