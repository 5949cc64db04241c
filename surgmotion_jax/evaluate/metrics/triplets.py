"""Average precision of action triplets <instrument, verb, target>, video by video.

Letters: V videos, N frames of a video, C columns of a component.

A class that a video does not show has no average precision there (NaN). It must not count as 0, as it does in
`ivtmetrics` 0.1.5, where a perfect prediction of one present class scores 1 / C.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

COMPONENTS = ("I", "V", "T", "IV", "IT", "IVT")
_PARTS = {"I": (0,), "V": (1,), "T": (2,), "IV": (0, 1), "IT": (0, 2), "IVT": (0, 1, 2)}


def average_precision(label_N: np.ndarray, score_N: np.ndarray) -> float:
    """Sum of precision times the step in recall over the distinct scores, descending; NaN without a positive."""
    positives = np.count_nonzero(label_N)
    if not positives:
        return float("nan")
    order = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order]
    hits_N = np.cumsum(np.asarray(label_N, bool)[order])
    last_N = np.append(sorted_N[1:] != sorted_N[:-1], True)  # equal scores are one threshold
    hits, count = hits_N[last_N], np.flatnonzero(last_N) + 1
    return float(np.sum(np.diff(hits, prepend=0) * (hits / count)) / positives)


def component_columns(triplets_Cx3: np.ndarray, component: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct classes of a component and, for each triplet, the row of its class.

    Returns ([K,len(parts)] class ids in ascending order, [C] rows of them).
    """
    if component not in _PARTS:
        raise ValueError(f"component is {component!r}; it must be one of {', '.join(COMPONENTS)}.")
    classes, rows = np.unique(triplets_Cx3[:, _PARTS[component]], axis=0, return_inverse=True)
    return classes, rows.reshape(-1)


def to_component(values_NxC: np.ndarray, triplets_Cx3: np.ndarray, component: str) -> np.ndarray:
    """Scores or labels of a component, [N,K]: the maximum over the triplets that contain each class."""
    classes, rows_C = component_columns(triplets_Cx3, component)
    out_NxK = np.full((len(values_NxC), len(classes)), -np.inf)
    for column, row in enumerate(rows_C):
        out_NxK[:, row] = np.maximum(out_NxK[:, row], values_NxC[:, column])
    return out_NxK


def video_average_precision(label_NxC: np.ndarray, score_NxC: np.ndarray) -> np.ndarray:
    """Average precision of each class in one video, [C]; NaN for a class that the video does not show."""
    if label_NxC.shape != score_NxC.shape:
        raise ValueError(f"labels {list(label_NxC.shape)} but scores {list(score_NxC.shape)}; score every frame once.")
    return np.array([average_precision(label_NxC[:, c], score_NxC[:, c]) for c in range(label_NxC.shape[1])])


def video_wise(precision_VxC: np.ndarray) -> tuple[float, np.ndarray]:
    """The benchmark's mean: over the videos that show a class, then over the classes that some video shows.

    Returns (mAP, [C] per-class AP with NaN for a class that no video shows).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of NaN has the mean NaN, as it should
        per_class_C = np.nanmean(precision_VxC, axis=0)
        return float(np.nanmean(per_class_C)), per_class_C


def component_scores(
    labels: Sequence[np.ndarray], scores: Sequence[np.ndarray], triplets_Cx3: np.ndarray, component: str
) -> np.ndarray:
    """Average precision per video and class of a component, [V,K]; labels and scores are [N,C] over triplets."""
    return np.stack(
        [
            video_average_precision(to_component(y, triplets_Cx3, component), to_component(s, triplets_Cx3, component))
            for y, s in zip(labels, scores, strict=True)
        ]
    )
