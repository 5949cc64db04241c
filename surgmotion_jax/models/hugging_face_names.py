"""Names of transformers' V-JEPA 2 <-> facebookresearch's, lazily: renamed tensors, fused or split projections.

Covers `VJEPA2Model` and the head of `VJEPA2ForVideoClassification` (whose model part carries the prefix `vjepa2.`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from surgmotion_jax.models.name_rules import Deferred, Tensor, Tensors, count_layers, dtype_of, origin, read_all

MASK_TOKENS = "predictor.embeddings.mask_tokens"  # one stacked tensor there, `predictor.mask_tokens.0`, ... here
V21_ONLY = re.compile(r"norms_block\.|patch_embed_img\.|_mod_embed|predictor_embed\.\d|predictor_proj_context\.")


@dataclass(frozen=True)
class Renaming:
    """Pairs of (transformers, facebookresearch) spellings."""

    starts: tuple[tuple[str, str], ...]  # of a name
    parts: tuple[tuple[str, str], ...]  # anywhere in it
    fused: tuple[tuple[tuple[str, ...], str], ...]  # several tensors there are one here, stacked along the rows

    def to_facebook(self, name: str) -> str:
        for theirs, ours in self.starts:
            name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
        for theirs, ours in self.parts:
            name = name.replace(theirs, ours)
        return name

    def to_hugging_face(self, name: str) -> str:
        for theirs, ours in self.starts:
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        for theirs, ours in self.parts:
            name = name.replace(ours, theirs)
        return name


MODEL = Renaming(
    starts=(
        ("encoder.embeddings.patch_embeddings.proj.", "encoder.patch_embed.proj."),
        ("encoder.layer.", "encoder.blocks."),
        ("encoder.layernorm.", "encoder.norm."),
        ("predictor.embeddings.predictor_embeddings.", "predictor.predictor_embed."),
        ("predictor.layer.", "predictor.predictor_blocks."),
        ("predictor.layernorm.", "predictor.predictor_norm."),
        ("predictor.proj.", "predictor.predictor_proj."),
    ),
    parts=((".attention.proj.", ".attn.proj."),),
    fused=(((".attention.query.", ".attention.key.", ".attention.value."), ".attn.qkv."),),
)

PROBE = Renaming(
    starts=(
        ("pooler.self_attention_layers.", "pooler.blocks."),
        ("pooler.cross_attention_layer.", "pooler.cross_attention_block."),
        ("classifier.", "linear."),
    ),
    parts=(
        (".layer_norm1.", ".norm1."),
        (".layer_norm2.", ".norm2."),
        (".self_attn.out_proj.", ".attn.proj."),
        (".cross_attn.q_proj.", ".xattn.q."),
    ),
    fused=(
        ((".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."), ".attn.qkv."),
        ((".cross_attn.k_proj.", ".cross_attn.v_proj."), ".xattn.kv."),
    ),
)


def facebook_tensors(weights: Tensors) -> dict[str, Deferred]:
    """Renames `VJEPA2Model` weights to facebookresearch's: `encoder.*`, `predictor.*`, fused qkv.

    Raises ValueError naming a projection whose partners are missing.
    """
    rest = {name: value for name, value in weights.items() if name != MASK_TOKENS}
    out = _to_facebook(rest, MODEL)
    if MASK_TOKENS in weights:
        tokens = weights[MASK_TOKENS]
        out |= {f"predictor.mask_tokens.{i}": _entry(tokens, i) for i in range(tokens.shape[0])}
    return out


def hugging_face_tensors(weights: Tensors) -> dict[str, Deferred]:
    """The inverse of `facebook_tensors`: facebookresearch's `encoder.*`, `predictor.*` to `VJEPA2Model`'s names.

    Raises ValueError for tensors of V-JEPA 2.1, which `VJEPA2Model` has no place for.
    """
    foreign = [name for name in weights if V21_ONLY.search(name)]
    if foreign:
        raise ValueError(
            f"{len(foreign)} tensors belong to V-JEPA 2.1, such as {foreign[0]}; transformers' VJEPA2Model has no "
            "place for them. Keep these weights in this package's format."
        )
    tokens = [f"predictor.mask_tokens.{i}" for i in range(count_layers(weights, "predictor.mask_tokens."))]
    out = _to_hugging_face({name: value for name, value in weights.items() if name not in tokens}, MODEL)
    return out | ({MASK_TOKENS: _stacked(weights, tokens)} if tokens else {})


def facebook_probe_tensors(weights: Tensors) -> dict[str, Deferred]:
    """Renames a transformers classification head (`pooler.*`, `classifier.*`) to facebookresearch's names."""
    return _to_facebook(weights, PROBE)


def hugging_face_probe_tensors(weights: Tensors) -> dict[str, Deferred]:
    """The inverse of `facebook_probe_tensors`."""
    return _to_hugging_face(weights, PROBE)


def facebook_names(weights: Tensors) -> dict[str, np.ndarray]:
    """`facebook_tensors`, all read."""
    return read_all(facebook_tensors(weights))


def hugging_face_names(weights: Tensors) -> dict[str, np.ndarray]:
    """`hugging_face_tensors`, all read."""
    return read_all(hugging_face_tensors(weights))


def _to_facebook(weights: Tensors, renaming: Renaming) -> dict[str, Deferred]:
    out: dict[str, Deferred] = {}
    for name, value in weights.items():
        for theirs, ours in renaming.fused:
            part = next((p for p in theirs if p in name), None)
            if part is not None:
                names = [name.replace(part, p) for p in theirs]
                out[renaming.to_facebook(name.replace(part, ours))] = _joined(weights, names)
                break
        else:
            out[renaming.to_facebook(name)] = _renamed(name, value)
    return out


def _to_hugging_face(weights: Tensors, renaming: Renaming) -> dict[str, Deferred]:
    out: dict[str, Deferred] = {}
    for name, value in weights.items():
        for theirs, ours in renaming.fused:
            if ours in name:
                names = [renaming.to_hugging_face(name.replace(ours, part)) for part in theirs]
                out |= {new: _rows(name, value, i, len(theirs)) for i, new in enumerate(names)}
                break
        else:
            out[renaming.to_hugging_face(name)] = _renamed(name, value)
    return out


def _renamed(name: str, value: Tensor) -> Deferred:
    return Deferred(tuple(value.shape), dtype_of(value), origin(value, name), lambda: np.asarray(value))


def _joined(weights: Tensors, names: list[str]) -> Deferred:
    missing = [name for name in names if name not in weights]
    if missing:
        there = next(name for name in names if name in weights)
        raise ValueError(f"{', '.join(missing)} is missing from the weights, although {there} is there.")
    parts = [weights[name] for name in names]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    sources = tuple(s for name, part in zip(names, parts, strict=True) for s in origin(part, name))
    return Deferred(shape, dtype_of(parts[0]), sources, lambda: np.concatenate([np.asarray(p) for p in parts]))


def _rows(name: str, value: Tensor, part: int, parts: int) -> Deferred:
    rows = value.shape[0] // parts
    shape = (rows, *value.shape[1:])
    return Deferred(
        shape, dtype_of(value), origin(value, name), lambda: np.asarray(value)[part * rows : (part + 1) * rows]
    )


def _entry(tokens: Tensor, index: int) -> Deferred:
    shape = tuple(tokens.shape[1:])
    return Deferred(shape, dtype_of(tokens), origin(tokens, MASK_TOKENS), lambda: np.asarray(tokens)[index])


def _stacked(weights: Tensors, names: list[str]) -> Deferred:
    missing = [name for name in names if name not in weights]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing from the weights, although {names[-1]} is there.")
    parts = [weights[name] for name in names]
    sources = tuple(s for name, part in zip(names, parts, strict=True) for s in origin(part, name))
    shape = (len(parts), *parts[0].shape)
    return Deferred(shape, dtype_of(parts[0]), sources, lambda: np.stack([np.asarray(p) for p in parts]))
