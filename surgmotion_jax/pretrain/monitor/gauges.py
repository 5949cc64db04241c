"""Gauges that compare encoders whose losses cannot be compared: ranks of features, and how clips lie on the sphere.

Where moments of a clip are called its views, they are the mean features of its tubelet steps. All in float64 on the
host.

Letters: I clips, Q views of a clip, C feature width.
"""

from __future__ import annotations

import numpy as np

WITHIN = 1e-4  # added to the within-clip scatter, as LiDAR has it
SHARE = 1e-7  # added to the shares of eigenvalues, as LiDAR has it


def rankme(gram_CxC: np.ndarray) -> float:
    """Effective rank exp(H(p)), p the normalised singular values of the features whose Gram matrix this is.

    RankMe (arXiv 2210.02885): 1 for features on a line, C for features that fill all dimensions evenly.
    """
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram_CxC.astype(np.float64)), 0))
    if not singular.sum() > 0:
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))


def lidar(views_IxQxC: np.ndarray) -> float:
    """Effective rank of the directions in which clips differ more than their views do (LiDAR, arXiv 2312.04000).

    exp(H(p)), p the normalised eigenvalues of W^-1/2 B W^-1/2: B is the scatter of the clips' means, W the scatter of
    views about the mean of their clip, plus 1e-4. At most one less than there are clips.
    """
    views = views_IxQxC.astype(np.float64)
    mean_IxC = views.mean(1)
    apart_IxC = mean_IxC - mean_IxC.mean(0)
    around = (views - mean_IxC[:, None]).reshape(-1, views.shape[-1])
    between = apart_IxC.T @ apart_IxC / len(mean_IxC)
    value_C, vector_CxC = np.linalg.eigh(around.T @ around / len(around) + WITHIN * np.eye(views.shape[-1]))
    whitened = vector_CxC / np.sqrt(value_C)  # W^-1/2 up to a rotation, which no eigenvalue sees
    eigenvalues = np.maximum(np.linalg.eigvalsh(whitened.T @ between @ whitened), 0)
    if not eigenvalues.sum() > 0:
        return 0.0
    share = eigenvalues / eigenvalues.sum() + SHARE
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(views_IxQxC: np.ndarray) -> float:
    """Mean squared distance of two views of a clip on the unit sphere (arXiv 2005.10242); 0 where they are alike."""
    unit = on_sphere(views_IxQxC)
    views = unit.shape[1]
    if views < 2:
        return 0.0
    cosine_I = (np.square(unit.sum(1)).sum(-1) - views) / (views * (views - 1))  # mean over pairs of different views
    return float((2 - 2 * cosine_I).mean())


def uniformity(mean_IxC: np.ndarray) -> float:
    """log E exp(-2 |x - y|^2) over pairs of clips on the unit sphere (arXiv 2005.10242): 0 where all are alike."""
    unit = on_sphere(mean_IxC)
    if len(unit) < 2:
        return 0.0
    distance_IxI = np.maximum(2 - 2 * unit @ unit.T, 0)
    return float(np.log(np.exp(-2 * distance_IxI[np.triu_indices(len(unit), 1)]).mean()))


def on_sphere(x: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in float64; those of length 0 stay."""
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def feature_ranks(gram_CxC: np.ndarray, views_IxQxC: np.ndarray | None, width: int) -> dict[str, float]:
    """All gauges of the features: of the encoder's last level, and, where it has several of this width, of each."""
    levels = max(gram_CxC.shape[0] // width, 1)
    metrics: dict[str, float] = {}
    for level in range(levels):
        part = slice(level * width, (level + 1) * width)
        found = {"rankme": rankme(gram_CxC[part, part])}
        if views_IxQxC is not None:
            found |= view_gauges(views_IxQxC[..., part])
        metrics |= {f"gauge/{name}": value for name, value in found.items()}  # the last level's stay
        if levels > 1:
            metrics |= {f"gauge/{name}_level{level + 1}": value for name, value in found.items()}
    return metrics


def view_gauges(views_IxQxC: np.ndarray) -> dict[str, float]:
    """The gauges that look at clips and their views."""
    return {
        "lidar": lidar(views_IxQxC),
        "alignment": alignment(views_IxQxC),
        "uniformity": uniformity(views_IxQxC.mean(1)),
    }
