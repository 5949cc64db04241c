"""Tables of moments that may have several classes at once. Letters: B rows of a batch, N moments, K classes."""

from __future__ import annotations

import numpy as np

from surgmotion_jax.evaluate.tasks.task import Table


def several_columns(score_BxK: np.ndarray, label_BxK: np.ndarray) -> Table:
    """The true classes, as `t3 t17`, and the score of each class."""
    joined = [" ".join(f"t{k}" for k in np.flatnonzero(row)) for row in label_BxK]
    scores = {f"s{k}": score_BxK[:, k] for k in range(score_BxK.shape[1])}
    return {"truth": np.array(joined, dtype=object), **scores}


def several_arrays(table: Table, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(0/1 labels [N,K], scores [N,K]) of a table."""
    score_NxK = np.stack([table[f"s{k}"] for k in range(classes)], axis=1).astype(np.float64)
    label_NxK = np.zeros(score_NxK.shape, np.int64)
    for row, words in enumerate(table["truth"]):
        label_NxK[row, [int(word[1:]) for word in words.split()]] = 1
    return label_NxK, score_NxK
