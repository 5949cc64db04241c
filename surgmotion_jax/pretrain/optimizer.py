"""AdamW as V-JEPA 2 uses it: decay decided by name, unused mask tokens left alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.pretrain.config import OptimConfig

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")


def adam(config: OptimConfig) -> optax.GradientTransformation:
    """First and second moments, bias-corrected."""
    return optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps)


def _decay(path: tuple[Any, ...], update: jax.Array, param: jax.Array, weight_decay: jax.Array) -> jax.Array:
    name = path[-1].key
    if name in UNDECAYED:
        return update
    if name == "mask_tokens":
        # PyTorch skips parameters without a gradient; here a token never used has an update of exactly zero.
        used = jnp.any(update != 0, axis=-1, keepdims=True)
        return update + weight_decay * param * used
    return update + weight_decay * param


def adamw(
    grads: Any, moments: Any, params: Any, lr: jax.Array, weight_decay: jax.Array, config: OptimConfig
) -> tuple[Any, Any]:
    """One decoupled AdamW update, p <- p (1 - lr wd) - lr m / (sqrt(v) + eps). Returns (params, moments)."""
    updates, moments = adam(config).update(grads, moments)
    updates = jax.tree_util.tree_map_with_path(lambda k, u, p: _decay(k, u, p, weight_decay), updates, params)
    return jax.tree.map(lambda p, u: p - lr * u, params, updates), moments


def global_norm(tree: Any) -> jax.Array:
    """Euclidean norm of all leaves together."""
    return jnp.sqrt(sum((jnp.square(x).sum() for x in jax.tree.leaves(tree)), start=jnp.zeros(())))


def clip_by_norm(grads: Any, norm: jax.Array, largest: float) -> Any:
    """Scales gradients so that their global norm is at most `largest`; 0 leaves them alone."""
    if not largest:
        return grads
    return jax.tree.map(lambda g: g * jnp.minimum(1.0, largest / jnp.maximum(norm, 1e-12)), grads)


def ema(target: Any, online: Any, momentum: jax.Array) -> Any:
    """target <- m target + (1 - m) online, in float32 (bfloat16 would not move at 0.99925)."""
    return jax.tree.map(lambda t, o: momentum * t + (1 - momentum) * o, target, online)
