"""The optimiser of a config, with decay decided by name, as V-JEPA 2 trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import jax
import optax

from surgmotion_jax.optim.kinds import OPTIMIZERS
from surgmotion_jax.optim.rates import decay, decay_used, rate
from surgmotion_jax.optim.rounding import in_bfloat16
from surgmotion_jax.pretrain.config import OptimConfig

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")
# PyTorch skips parameters without a gradient; here what a step leaves unused has an update of exactly 0.
TOKENS = "mask_tokens"
PARTS = ("image_embed", "image_modality", "video_modality", "context_proj")  # V-JEPA 2.1 may leave out
VIDEO_TOKENIZER = "patch_embed"  # left out by a step of images alone, where these have a tokenizer of their own


def make_optimizer(config: OptimConfig) -> optax.GradientTransformationExtraArgs:
    """What turns gradients into changes of the parameters; its updates take `lr` and `weight_decay` of the step."""
    inner = OPTIMIZERS[config.kind](config)
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        in_bfloat16(inner) if config.moments_dtype == "bfloat16" else inner,
        optax.masked(decay(), of_kind("whole")),
        optax.masked(decay_used(axis=-1), of_kind("rows")),
        optax.masked(decay_used(), of_kind("used")),
        rate(),
    )


def of_kind(kind: str) -> Callable[[optax.Params], optax.Params]:
    """The mask of the parameters whose decay is of a kind, as a function of their tree."""

    def mask(params: optax.Params) -> optax.Params:
        parts = left_out(params)
        return jax.tree_util.tree_map_with_path(lambda path, _: kind_of_decay(names_of(path), parts) == kind, params)

    return mask


def left_out(params: optax.Params) -> frozenset[str]:
    """Parts of a tree that a step may leave unused."""
    there = {name for path, _ in jax.tree_util.tree_leaves_with_path(params) for name in names_of(path)}
    return frozenset(there.intersection(PARTS) | ({VIDEO_TOKENIZER} if "image_embed" in there else set()))


def names_of(path: jax.tree_util.KeyPath) -> list[str]:
    return [key.key for key in path]  # type: ignore[attr-defined]


def kind_of_decay(names: Sequence[str], parts: Collection[str]) -> str:
    """How a parameter decays: 'none', 'whole', in its used 'rows', or 'used': only if a step uses it, as `parts`."""
    if names[-1] in UNDECAYED:
        return "none"
    if names[-1] == TOKENS:
        return "rows"
    return "used" if any(name in parts for name in names) else "whole"


def ema(target: optax.Params, online: optax.Params, momentum: jax.Array) -> optax.Params:
    """target <- m target + (1 - m) online, in float32 (bfloat16 would not move at 0.99925)."""
    return optax.incremental_update(target, online, momentum)  # `step_size` is the share of the first
