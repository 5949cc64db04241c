"""AdamW and its schedule as the released probes use them: every parameter decays, the rate falls by a cosine to 0.

Pure functions of arrays, so that rate and decay may be traced and `vmap`ped over. Pretraining has its own AdamW,
which spares biases and norms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class Moments(NamedTuple):
    """Running means of gradients and of their squares, shaped as the parameters."""

    mean: Any
    square: Any


def no_moments(params: Any) -> Moments:
    """Moments before the first update."""
    return Moments(jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))


def cosine(step: jax.Array, steps: int, peak: jax.Array) -> jax.Array:
    """The rate of the update that follows `step` updates: `peak` for the first, 0 after the last."""
    # In the rate's own precision: a float32 angle would cap what a float64 run can show.
    progress = step.astype(peak.dtype) / steps
    return peak * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))


def adamw(
    grads: Any, moments: Moments, params: Any, step: jax.Array, lr: jax.Array, weight_decay: jax.Array
) -> tuple[Any, Moments]:
    """One decoupled update, p <- p - lr (m / (sqrt(v) + eps) + wd p), of every parameter (arXiv 1711.05101).

    `step` counts the updates before this one. Returns (params, moments).
    """
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, moments.mean, grads)
    square = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, moments.square, grads)
    count = (step + 1).astype(lr.dtype)
    unbias1, unbias2 = 1 - BETA1**count, 1 - BETA2**count

    def updated(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p - lr * (m / unbias1 / (jnp.sqrt(v / unbias2) + EPS) + weight_decay * p)

    return jax.tree.map(updated, params, mean, square), Moments(mean, square)
