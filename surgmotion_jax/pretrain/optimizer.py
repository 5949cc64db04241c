"""The optimiser of a config, with decay decided by name, as V-JEPA 2 trains."""

from __future__ import annotations

import jax
import optax

from surgmotion_jax.optim.decay_by_name import decays_by_name
from surgmotion_jax.optim.kinds import OPTIMIZERS
from surgmotion_jax.optim.rates import rate
from surgmotion_jax.optim.rounding import in_bfloat16
from surgmotion_jax.pretrain.config import OptimConfig


def make_optimizer(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """What turns gradients into changes of the parameters; its updates take `lr` and `weight_decay` of the step."""
    inner = OPTIMIZERS[config.kind](config)
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        in_bfloat16(inner) if config.moments_dtype == "bfloat16" else inner,
        *decays_by_name(),
        rate(),
    )


def ema(target: optax.Params, online: optax.Params, momentum: jax.Array) -> optax.Params:
    """target <- m target + (1 - m) online, in float32 (bfloat16 would not move at 0.99925)."""
    return optax.incremental_update(target, online, momentum)  # `step_size` is the share of the first
