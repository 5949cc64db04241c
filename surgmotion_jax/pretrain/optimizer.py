"""The optimiser of a config, with decay decided by name, as V-JEPA 2 trains."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax

from surgmotion_jax.optim.kinds import OPTIMIZERS
from surgmotion_jax.optim.rates import decay, decay_used_rows, rate
from surgmotion_jax.optim.rounding import in_bfloat16
from surgmotion_jax.pretrain.config import OptimConfig

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")
TOKENS = "mask_tokens"  # PyTorch skips parameters without a gradient; here an unused token has an update of exactly 0


def make_optimizer(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """What turns gradients into changes of the parameters; its updates take `lr` and `weight_decay` of the step."""
    inner = OPTIMIZERS[config.kind](config)
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        in_bfloat16(inner) if config.moments_dtype == "bfloat16" else inner,
        optax.masked(decay(), by_name(lambda name: name not in (*UNDECAYED, TOKENS))),
        optax.masked(decay_used_rows(), by_name(lambda name: name == TOKENS)),
        rate(),
    )


def by_name(wanted: Callable[[str], bool]) -> Callable[[optax.Params], optax.Params]:
    """The mask of the parameters whose last name is wanted, as a function of their tree."""
    return lambda params: jax.tree_util.tree_map_with_path(lambda path, _: wanted(path[-1].key), params)


def ema(target: optax.Params, online: optax.Params, momentum: jax.Array) -> optax.Params:
    """target <- m target + (1 - m) online, in float32 (bfloat16 would not move at 0.99925)."""
    return optax.incremental_update(target, online, momentum)  # `step_size` is the share of the first
