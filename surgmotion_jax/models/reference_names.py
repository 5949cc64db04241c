"""Names of the PyTorch releases <-> our parameter tree, in NumPy.

Layouts differ in three ways only: linear weights are transposed, per-layer tensors are stacked on a leading axis, and
the patch kernel flattens (frame, row, column, channel) where PyTorch keeps (channel, frame, row, column).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Params = dict[str, Any]

_HUGGING_FACE_RENAMES = (
    ("encoder.embeddings.patch_embeddings.proj.", "encoder.patch_embed.proj."),
    ("encoder.layer.", "encoder.blocks."),
    ("encoder.layernorm.", "encoder.norm."),
    ("predictor.embeddings.predictor_embeddings.", "predictor.predictor_embed."),
    ("predictor.layer.", "predictor.predictor_blocks."),
    ("predictor.layernorm.", "predictor.predictor_norm."),
    ("predictor.proj.", "predictor.predictor_proj."),
    (".attention.", ".attn."),
)


def facebook_names(weights: Arrays) -> dict[str, np.ndarray]:
    """Renames transformers' `VJEPA2Model` weights to facebookresearch's: `encoder.*`, `predictor.*`, fused qkv."""
    out: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        new = name
        for theirs, ours in _HUGGING_FACE_RENAMES:
            new = new.replace(theirs, ours)
        split = re.search(r"\.attn\.(query|key|value)\.(weight|bias)$", new)
        if new.endswith("predictor.embeddings.mask_tokens"):
            out |= {f"predictor.mask_tokens.{i}": token for i, token in enumerate(value)}
        elif split is None:
            out[new] = value
        elif split[1] == "query":
            parts = [weights[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            out[new.replace(".query.", ".qkv.")] = np.concatenate(parts)
    return out


def _linear(weights: Arrays, name: str, features: tuple[int, ...] = ()) -> Params:
    kernel, bias = weights[f"{name}.weight"].T, weights[f"{name}.bias"]
    if features:
        kernel, bias = kernel.reshape(kernel.shape[0], *features), bias.reshape(features)
    return {"kernel": kernel, "bias": bias}


def _norm(weights: Arrays, name: str) -> Params:
    return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}


def _block(weights: Arrays, name: str, heads: int) -> Params:
    width = weights[f"{name}.norm1.weight"].shape[0]
    proj = _linear(weights, f"{name}.attn.proj")
    proj["kernel"] = proj["kernel"].reshape(heads, width // heads, width)
    return {
        "norm1": _norm(weights, f"{name}.norm1"),
        "norm2": _norm(weights, f"{name}.norm2"),
        "attn": {"qkv": _linear(weights, f"{name}.attn.qkv", (3, heads, width // heads)), "proj": proj},
        "mlp": {"fc1": _linear(weights, f"{name}.mlp.fc1"), "fc2": _linear(weights, f"{name}.mlp.fc2")},
    }


def _stack(blocks: list[Params]) -> Params:
    return {
        key: _stack([b[key] for b in blocks]) if isinstance(value, dict) else np.stack([b[key] for b in blocks])
        for key, value in blocks[0].items()
    }


def _trunk(weights: Arrays, prefix: str, heads: int) -> Params:
    depth = 1 + max(int(n.removeprefix(prefix).split(".")[0]) for n in weights if n.startswith(prefix))
    return {"blocks": _stack([_block(weights, f"{prefix}{i}", heads) for i in range(depth)])}


def encoder_from_facebook(weights: Arrays, heads: int, prefix: str = "") -> Params:
    """Encoder parameters from facebookresearch names (`patch_embed.proj.weight`, `blocks.0...`)."""
    kernel = weights[f"{prefix}patch_embed.proj.weight"]
    return {
        "patch_embed": {
            "kernel": kernel.transpose(2, 3, 4, 1, 0).reshape(-1, kernel.shape[0]),
            "bias": weights[f"{prefix}patch_embed.proj.bias"],
        },
        "trunk": _trunk(weights, f"{prefix}blocks.", heads),
        "norm": _norm(weights, f"{prefix}norm"),
    }


def predictor_from_facebook(weights: Arrays, heads: int, prefix: str = "") -> Params:
    """Predictor parameters from facebookresearch names (`predictor_embed.weight`, `mask_tokens.0`, ...)."""
    count = sum(name.startswith(f"{prefix}mask_tokens.") for name in weights)
    return {
        "embed": _linear(weights, f"{prefix}predictor_embed"),
        "mask_tokens": np.stack([weights[f"{prefix}mask_tokens.{i}"].reshape(-1) for i in range(count)]),
        "trunk": _trunk(weights, f"{prefix}predictor_blocks.", heads),
        "norm": _norm(weights, f"{prefix}predictor_norm"),
        "proj": _linear(weights, f"{prefix}predictor_proj"),
    }


def _to_linear(leaf: Params, name: str, shape: tuple[int, int] = (0, 0)) -> dict[str, np.ndarray]:
    kernel = np.asarray(leaf["kernel"])
    kernel = kernel.reshape(shape) if any(shape) else kernel
    return {f"{name}.weight": kernel.T, f"{name}.bias": np.asarray(leaf["bias"]).reshape(-1)}


def _to_norm(leaf: Params, name: str) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.asarray(leaf["scale"]), f"{name}.bias": np.asarray(leaf["bias"])}


def _layer(tree: Params, layer: int) -> Params:
    return {k: _layer(v, layer) if isinstance(v, dict) else np.asarray(v[layer]) for k, v in tree.items()}


def _to_trunk(trunk: Params, prefix: str) -> dict[str, np.ndarray]:
    blocks = trunk["blocks"]
    depth, width = blocks["norm1"]["scale"].shape
    out: dict[str, np.ndarray] = {}
    for i in range(depth):
        block, name = _layer(blocks, i), f"{prefix}{i}"
        out |= _to_norm(block["norm1"], f"{name}.norm1") | _to_norm(block["norm2"], f"{name}.norm2")
        out |= _to_linear(block["attn"]["qkv"], f"{name}.attn.qkv", (width, -1))
        out |= _to_linear(block["attn"]["proj"], f"{name}.attn.proj", (-1, width))
        out |= _to_linear(block["mlp"]["fc1"], f"{name}.mlp.fc1") | _to_linear(block["mlp"]["fc2"], f"{name}.mlp.fc2")
    return out


def encoder_to_facebook(params: Params, patch: int, tubelet: int, prefix: str = "") -> dict[str, np.ndarray]:
    """The inverse of `encoder_from_facebook`."""
    kernel = np.asarray(params["patch_embed"]["kernel"])
    return {
        f"{prefix}patch_embed.proj.weight": kernel.reshape(tubelet, patch, patch, 3, -1).transpose(4, 3, 0, 1, 2),
        f"{prefix}patch_embed.proj.bias": np.asarray(params["patch_embed"]["bias"]),
        **_to_trunk(params["trunk"], f"{prefix}blocks."),
        **_to_norm(params["norm"], f"{prefix}norm"),
    }


def predictor_to_facebook(params: Params, prefix: str = "") -> dict[str, np.ndarray]:
    """The inverse of `predictor_from_facebook`."""
    tokens = {f"{prefix}mask_tokens.{i}": np.asarray(t)[None, None] for i, t in enumerate(params["mask_tokens"])}
    return {
        **tokens,
        **_to_linear(params["embed"], f"{prefix}predictor_embed"),
        **_to_norm(params["norm"], f"{prefix}predictor_norm"),
        **_to_linear(params["proj"], f"{prefix}predictor_proj"),
        **_to_trunk(params["trunk"], f"{prefix}predictor_blocks."),
    }
