"""Weighted nearest neighbours by cosine similarity, the evaluation without training (DINO, arXiv 2104.14294).

Letters: N training features, M queries, D width, K columns of the targets, k neighbours, b queries of a block.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

NEIGHBOURS, TEMPERATURE = 20, 0.07  # DINO's


def nearest_neighbours(
    bank_NxD: ArrayLike,
    target_NxK: ArrayLike,
    query_MxD: ArrayLike,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    block: int = 256,
) -> np.ndarray:
    """Mean targets of the k most similar training features, weighted by exp(cosine / temperature): [M,K] float32.

    Targets are one-hot classes (`one_hot`), 0/1 columns or scores; so the result holds class or column
    probabilities or scores. Of equally similar features the earlier ones count. Computed `block` queries at a time.

    Raises ValueError for sizes that do not fit, fewer than k training features, a temperature that is not positive.
    """
    bank, target, query = (np.asarray(x, np.float32) for x in (bank_NxD, target_NxK, query_MxD))
    if bank.ndim != 2 or query.ndim != 2 or bank.shape[1] != query.shape[1]:
        raise ValueError(f"training features {bank.shape}, queries {query.shape}: both are rows of one width")
    if target.ndim != 2 or len(target) != len(bank):
        raise ValueError(f"targets {target.shape} for {len(bank)} training features: give one row a feature")
    if not 1 <= k <= len(bank):
        raise ValueError(f"k is {k}; with {len(bank)} training features it must lie in 1..{len(bank)}")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive (DINO uses {TEMPERATURE})")
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1")
    unit_bank, values = jax.device_put((_unit(bank), target))
    found = []
    for start in range(0, len(query), block):
        rows = query[start : start + block]
        padded = np.pad(rows, ((0, block - len(rows)), (0, 0)))  # one shape, one program
        found.append(np.asarray(_vote(unit_bank, values, _unit(padded), k=k, temperature=temperature))[: len(rows)])
    return np.concatenate(found) if found else np.zeros((0, target.shape[1]), np.float32)


def one_hot(label_N: ArrayLike, classes: int) -> np.ndarray:
    """Class ids as 0/1 columns [N,K]. Raises ValueError for an id outside 0..K-1."""
    labels = np.asarray(label_N)
    if labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"labels span {labels.min()}..{labels.max()}; allowed are 0..{classes - 1}")
    return np.eye(classes, dtype=np.float32)[labels]


@partial(jax.jit, static_argnames=("k", "temperature"))
def _vote(bank_NxD: jax.Array, target_NxK: jax.Array, query_bxD: jax.Array, *, k: int, temperature: float) -> jax.Array:
    similarity = jnp.matmul(query_bxD, bank_NxD.T, precision="highest")  # rounded products would change neighbours
    similar_bxk, row_bxk = jax.lax.top_k(similarity, k)
    return jnp.einsum("bk,bkc->bc", jax.nn.softmax(similar_bxk / temperature, axis=-1), target_NxK[row_bxk])


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), np.float32(1e-12))
