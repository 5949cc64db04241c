"""Weight decay by a parameter's name, as V-JEPA 2 trains: biases, norms and what a step leaves unused are spared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import jax
import optax

from surgmotion_jax.optim.rates import decay, decay_used

# Under the layer scan, biases and norm scales have two dimensions, so their rank cannot tell them apart.
UNDECAYED = ("bias", "scale")
# PyTorch skips parameters without a gradient; here what a step leaves unused has an update of exactly 0.
TOKENS = "mask_tokens"
PARTS = ("image_embed", "image_modality", "video_modality", "context_proj")  # V-JEPA 2.1 may leave out
VIDEO_TOKENIZER = "patch_embed"  # left out by a step of images alone, where these have a tokenizer of their own


def decays_by_name() -> tuple[optax.GradientTransformation, ...]:
    """Links of a chain whose updates take `weight_decay`: each decays the parameters of one kind."""
    return (
        optax.masked(decay(), of_kind("whole")),
        optax.masked(decay_used(axis=-1), of_kind("rows")),
        optax.masked(decay_used(), of_kind("used")),
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
