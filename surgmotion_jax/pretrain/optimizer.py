"""The optimiser of a config, with decay decided by name, as V-JEPA 2 trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import optax

from surgmotion_jax.optim.kinds import OPTIMIZERS
from surgmotion_jax.optim.rates import decay, decay_used, decay_used_rows, rate
from surgmotion_jax.optim.rounding import in_bfloat16
from surgmotion_jax.pretrain.config import OptimConfig

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")
# PyTorch skips parameters without a gradient; here what a step leaves unused has an update of exactly 0.
TOKENS = "mask_tokens"
PARTS = ("patch_embed", "image_embed", "image_modality", "video_modality", "context_proj")  # V-JEPA 2.1 may leave out


def make_optimizer(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """What turns gradients into changes of the parameters; its updates take `lr` and `weight_decay` of the step."""
    inner = OPTIMIZERS[config.kind](config)
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        in_bfloat16(inner) if config.moments_dtype == "bfloat16" else inner,
        optax.masked(decay(), by_path(lambda names: not {*UNDECAYED, TOKENS} & {names[-1]} and not in_part(names))),
        optax.masked(decay_used_rows(), by_path(lambda names: names[-1] == TOKENS)),
        optax.masked(decay_used(), by_path(lambda names: in_part(names) and names[-1] not in UNDECAYED)),
        rate(),
    )


def in_part(names: Sequence[str]) -> bool:
    """Whether a parameter, by the names on its path, belongs to a part that a step may leave unused."""
    return any(name in PARTS for name in names)


def by_path(wanted: Callable[[Sequence[str]], bool]) -> Callable[[optax.Params], optax.Params]:
    """The mask of the parameters whose path is wanted, as a function of their tree."""
    return lambda params: jax.tree_util.tree_map_with_path(lambda path, _: wanted([key.key for key in path]), params)


def ema(target: optax.Params, online: optax.Params, momentum: jax.Array) -> optax.Params:
    """target <- m target + (1 - m) online, in float32 (bfloat16 would not move at 0.99925)."""
    return optax.incremental_update(target, online, momentum)  # `step_size` is the share of the first
