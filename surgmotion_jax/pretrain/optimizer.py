"""AdamW as V-JEPA 2 uses it: decay decided by name, unused mask tokens left alone; moments in a chosen precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from surgmotion_jax.pretrain.config import OptimConfig

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")


def adam(config: OptimConfig) -> optax.GradientTransformation:
    """First and second moments, bias-corrected, in float32."""
    return optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.eps)


def init_moments(config: OptimConfig, params: Any) -> optax.OptState:
    """Zero moments in `config.moments_dtype`."""
    return round_moments(adam(config).init(params), config)


def round_moments(moments: Any, config: OptimConfig) -> optax.OptState:
    """Float32 moments as they are stored.

    bfloat16 moments are rounded at random, up or down with probabilities that make the mean exact. Rounding to the
    nearest would freeze the second moment: with beta2 = 0.999 it changes by a thousandth a step, and neighbouring
    bfloat16 numbers are 1/256 to 1/128 apart. The draws are keyed by the update's number: the same on every mesh, and
    the same after a restart.
    """
    if config.moments_dtype == "float32":
        return moments
    leaves, structure = jax.tree.flatten((moments.mu, moments.nu))
    key = jax.random.fold_in(jax.random.key(0), moments.count)
    rounded = [round_at_random(x, jax.random.fold_in(key, i)) for i, x in enumerate(leaves)]
    mu, nu = jax.tree.unflatten(structure, rounded)
    return moments._replace(mu=mu, nu=nu)


def round_at_random(x: jax.Array, key: jax.Array) -> jax.Array:
    """Float32 to one of the two neighbouring bfloat16 numbers, with the exact value as the mean. Infinities stay."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    # bfloat16 is the upper half of float32: a carry out of the lower half happens just as often as it should.
    draw = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    upper = (bits + draw) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(upper, jnp.float32).astype(jnp.bfloat16)


def in_float32(moments: Any) -> Any:
    """Stored moments as the update computes with them."""
    widen = partial(jax.tree.map, lambda x: x.astype(jnp.float32))
    return moments._replace(mu=widen(moments.mu), nu=widen(moments.nu))


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
    updates, moments = adam(config).update(grads, in_float32(moments))
    updates = jax.tree_util.tree_map_with_path(lambda k, u, p: _decay(k, u, p, weight_decay), updates, params)
    return jax.tree.map(lambda p, u: p - lr * u, params, updates), round_moments(moments, config)


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
