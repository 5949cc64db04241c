"""The optimisers of heads and of encoders that are trained with them, and their schedules.

Heads are trained by AdamW as the released probes are: every parameter decays, the rate falls by a cosine to 0.
Fine-tuning spares biases and norms, as pretraining does, from whose building blocks it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.evaluate.config import FinetuneConfig
from surgmotion_jax.optim.decay_by_name import decays_by_name
from surgmotion_jax.optim.rates import decay, rate, shares
from surgmotion_jax.optim.rounding import in_bfloat16

Optimizer: TypeAlias = optax.GradientTransformationExtraArgs

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def head_optimizer() -> Optimizer:
    """AdamW whose updates take `lr` and `weight_decay`, so that these may differ from head to head under `vmap`."""
    return optax.chain(optax.adam(1.0, b1=BETA1, b2=BETA2, eps=EPS), decay(), rate())


def finetune_optimizer(settings: FinetuneConfig, rate_shares: Callable[[optax.Params], optax.Params]) -> Optimizer:
    """AdamW with decay by name, whose updates take the head's `lr` and `weight_decay`.

    `rate_shares` gives the share of the rate that each parameter has. Decay is a part of the update, so that the share
    holds for it, too.
    """
    inner = optax.adam(1.0, b1=BETA1, b2=BETA2, eps=EPS)
    return optax.chain(
        optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity(),
        in_bfloat16(inner) if settings.moments_dtype == "bfloat16" else inner,
        *decays_by_name(),
        shares(rate_shares),
        rate(),
    )


def cosine(step: jax.Array, steps: int, peak: jax.Array) -> jax.Array:
    """The rate of the update that follows `step` updates: `peak` for the first, 0 after the last."""
    # In the rate's own precision: a float32 angle would cap what a float64 run can show.
    progress = step.astype(peak.dtype) / steps
    return peak * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.minimum(progress, 1.0)))


def warmed_cosine(step: jax.Array, steps: int, warmup: float, peak: jax.Array) -> jax.Array:
    """As `cosine`, after a share `warmup` of the steps in which the rate rises evenly; the first update has some."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    falling = cosine(step - rising, max(1, steps - rising), peak)
    return jnp.where(step < rising, peak * (step + 1).astype(peak.dtype) / max(1, rising), falling)
