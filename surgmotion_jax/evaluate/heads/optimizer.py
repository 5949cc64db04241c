"""AdamW and its schedule as the released probes use them: every parameter decays, the rate falls by a cosine to 0.

Pretraining builds its own from the same blocks, and spares biases and norms.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.optim.rates import decay, rate

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def head_optimizer() -> optax.GradientTransformationExtraArgs:
    """AdamW whose updates take `lr` and `weight_decay`, so that these may differ from head to head under `vmap`."""
    return optax.chain(optax.adam(1.0, b1=BETA1, b2=BETA2, eps=EPS), decay(), rate())


def cosine(step: jax.Array, steps: int, peak: jax.Array) -> jax.Array:
    """The rate of the update that follows `step` updates: `peak` for the first, 0 after the last."""
    # In the rate's own precision: a float32 angle would cap what a float64 run can show.
    progress = step.astype(peak.dtype) / steps
    return peak * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))
