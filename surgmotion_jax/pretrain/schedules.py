"""Learning rate, weight decay and EMA momentum as functions of the step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from surgmotion_jax.pretrain.config import OptimConfig


def learning_rate(step: jax.Array, config: OptimConfig, steps: int) -> jax.Array:
    """Learning rate of the update that follows `step` finished ones.

    V-JEPA advances its scheduler before each update, so the first update already uses k = 1 of the warm-up:
    lr_k = start + k / W (peak - start) for k < W, then the schedule over `decay_steps`.
    """
    peak, warmup = config.peak_lr, config.warmup_steps
    k = step.astype(jnp.float32) + 1
    start = config.warmup_from * peak
    rising = start + k / max(warmup, 1) * (peak - start)
    share = jnp.clip((k - warmup) / max((config.decay_steps or steps) - warmup, 1), 0.0, 1.0)
    after = {
        "constant": jnp.full_like(share, peak),
        "linear": peak + share * (config.final_lr - peak),
        "cosine": config.final_lr + (peak - config.final_lr) * 0.5 * (1 + jnp.cos(jnp.pi * share)),
    }[config.schedule]
    return jnp.where(k < warmup, rising, after)


def weight_decay(step: jax.Array, config: OptimConfig, steps: int) -> jax.Array:
    """Cosine from weight_decay to final_weight_decay, k counted as for the learning rate."""
    share = jnp.clip((step.astype(jnp.float32) + 1) / (config.decay_steps or steps), 0.0, 1.0)
    final = config.final_weight_decay
    return final + (config.weight_decay - final) * 0.5 * (1 + jnp.cos(jnp.pi * share))


def ema_momentum(step: jax.Array, config: OptimConfig, steps: int) -> jax.Array:
    """Linear from ema to final_ema, counted from 0."""
    share = jnp.clip(step.astype(jnp.float32) / (config.decay_steps or steps), 0.0, 1.0)
    return config.ema + share * (config.final_ema - config.ema)
