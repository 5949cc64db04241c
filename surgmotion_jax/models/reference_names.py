"""Names of the PyTorch releases <-> our parameter trees, in NumPy.

| | lazy | all at once |
| --- | --- | --- |
| facebookresearch -> ours | `encoder_leaves`, `predictor_leaves` | `encoder_from_facebook`, `predictor_from_facebook` |
| ours -> facebookresearch | `encoder_tensors`, `predictor_tensors` | `encoder_to_facebook`, `predictor_to_facebook` |
| transformers -> facebookresearch | `facebook_tensors` | `facebook_names` |
| facebookresearch -> transformers | `hugging_face_tensors` | `hugging_face_names` |

Lazy forms give `Deferred` arrays, which know their shape, dtype and origin and are read one at a time. They take
anything that has a shape and turns into an array, so that one can be built on another. V-JEPA 2 and V-JEPA 2.1 share
these functions: what the weights or the parameters hold says which one it is. Probes are in `probe_names`.

Layouts differ in three ways only: linear weights are transposed, per-layer tensors are stacked on a leading axis, and
the patch kernel flattens (frame, row, column, channel) where PyTorch keeps (channel, frame, row, column).
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.models.hugging_face_names import (
    facebook_names,
    facebook_tensors,
    hugging_face_names,
    hugging_face_tensors,
)
from surgmotion_jax.models.layer_rules import blocks, linear, norm, patches, token
from surgmotion_jax.models.name_rules import (
    Deferred,
    Params,
    Rule,
    Tensors,
    count_layers,
    leaf_at,
    nested,
    read_all,
    read_leaves,
    write_tensors,
)

__all__ = [
    "encoder_from_facebook",
    "encoder_leaves",
    "encoder_tensors",
    "encoder_to_facebook",
    "facebook_names",
    "facebook_tensors",
    "hugging_face_names",
    "hugging_face_tensors",
    "predictor_from_facebook",
    "predictor_leaves",
    "predictor_tensors",
    "predictor_to_facebook",
]


def _modality_rules(prefix: str) -> list[Rule]:
    return [token("image_modality", f"{prefix}img_mod_embed"), token("video_modality", f"{prefix}video_mod_embed")]


def _encoder_rules(
    prefix: str, *, depth: int, heads: int, patch: int, tubelet: int, levels: int, image: bool, modality: bool
) -> list[Rule]:
    """`levels` 0 means the single final norm of V-JEPA 2."""
    norms = [f"{prefix}norms_block.{i}" for i in range(levels)]
    return [
        *patches("patch_embed", f"{prefix}patch_embed.proj", patch, tubelet),
        *(patches("image_embed", f"{prefix}patch_embed_img.proj", patch, 1) if image else []),
        *(_modality_rules(prefix) if modality else []),
        *blocks("trunk/blocks", f"{prefix}blocks.", depth, heads),
        *(norm("norms", *norms, stacked=True) if levels else norm("norm", f"{prefix}norm")),
    ]


def _predictor_rules(
    prefix: str, *, depth: int, heads: int, mask_tokens: int, mlp_embed: bool, modality: bool, context: bool
) -> list[Rule]:
    embed = f"{prefix}predictor_embed"
    return [
        *(
            linear("embed/fc1", f"{embed}.0") + linear("embed/fc2", f"{embed}.2")
            if mlp_embed
            else linear("embed", embed)
        ),
        token("mask_tokens", *(f"{prefix}mask_tokens.{i}" for i in range(mask_tokens)), stacked=True),
        *(_modality_rules(prefix) if modality else []),
        *blocks("trunk/blocks", f"{prefix}predictor_blocks.", depth, heads),
        *norm("norm", f"{prefix}predictor_norm"),
        *linear("proj", f"{prefix}predictor_proj"),
        *(linear("context_proj", f"{prefix}predictor_proj_context") if context else []),
    ]


def encoder_leaves(weights: Tensors, heads: int, prefix: str = "") -> dict[str, Deferred]:
    """Leaves of the encoder by path, from facebookresearch names (`patch_embed.proj.weight`, `blocks.0...`).

    Raises ValueError naming the tensors that are missing or do not fit `heads`.
    """
    rules = _encoder_rules(
        prefix,
        depth=count_layers(weights, f"{prefix}blocks."),
        heads=heads,
        patch=0,  # the shape of the patch kernel matters for writing only
        tubelet=0,
        levels=count_layers(weights, f"{prefix}norms_block."),
        image=f"{prefix}patch_embed_img.proj.weight" in weights,
        modality=f"{prefix}video_mod_embed" in weights,
    )
    return read_leaves(rules, weights)


def predictor_leaves(weights: Tensors, heads: int, prefix: str = "") -> dict[str, Deferred]:
    """Leaves of the predictor by path, from facebookresearch names (`predictor_embed.weight`, `mask_tokens.0`, ...).

    Raises ValueError naming the tensors that are missing or do not fit `heads`.
    """
    rules = _predictor_rules(
        prefix,
        depth=count_layers(weights, f"{prefix}predictor_blocks."),
        heads=heads,
        mask_tokens=count_layers(weights, f"{prefix}mask_tokens."),
        mlp_embed=f"{prefix}predictor_embed.0.weight" in weights,
        modality=f"{prefix}video_mod_embed" in weights,
        context=f"{prefix}predictor_proj_context.weight" in weights,
    )
    return read_leaves(rules, weights)


def encoder_tensors(params: Params, patch: int, tubelet: int, prefix: str = "") -> dict[str, Deferred]:
    """The inverse of `encoder_leaves`, from a nested parameter tree."""
    depth, heads = leaf_at(params, "trunk/blocks/attn/proj/kernel").shape[:2]
    rules = _encoder_rules(
        prefix,
        depth=depth,
        heads=heads,
        patch=patch,
        tubelet=tubelet,
        levels=params["norms"]["scale"].shape[0] if "norms" in params else 0,
        image="image_embed" in params,
        modality="video_modality" in params,
    )
    return write_tensors(rules, params)


def predictor_tensors(params: Params, prefix: str = "") -> dict[str, Deferred]:
    """The inverse of `predictor_leaves`, from a nested parameter tree."""
    depth, heads = leaf_at(params, "trunk/blocks/attn/proj/kernel").shape[:2]
    rules = _predictor_rules(
        prefix,
        depth=depth,
        heads=heads,
        mask_tokens=leaf_at(params, "mask_tokens").shape[0],
        mlp_embed="fc1" in params["embed"],
        modality="video_modality" in params,
        context="context_proj" in params,
    )
    return write_tensors(rules, params)


def encoder_from_facebook(weights: Tensors, heads: int, prefix: str = "") -> Params:
    """Encoder parameters from facebookresearch names, all read; see `encoder_leaves`."""
    return nested(encoder_leaves(weights, heads, prefix))


def predictor_from_facebook(weights: Tensors, heads: int, prefix: str = "") -> Params:
    """Predictor parameters from facebookresearch names, all read; see `predictor_leaves`."""
    return nested(predictor_leaves(weights, heads, prefix))


def encoder_to_facebook(params: Params, patch: int, tubelet: int, prefix: str = "") -> dict[str, np.ndarray]:
    """The inverse of `encoder_from_facebook`."""
    return read_all(encoder_tensors(params, patch, tubelet, prefix))


def predictor_to_facebook(params: Params, prefix: str = "") -> dict[str, np.ndarray]:
    """The inverse of `predictor_from_facebook`."""
    return read_all(predictor_tensors(params, prefix))
