"""Names of released probes <-> our parameter tree: `pooler.*` and `linear.*` of facebookresearch's classifiers.

For transformers' names (`pooler.*`, `classifier.*`) go through `facebook_probe_tensors` and its inverse.
"""

from __future__ import annotations

import numpy as np

from surgmotion_jax.models.hugging_face_names import facebook_probe_tensors, hugging_face_probe_tensors
from surgmotion_jax.models.layer_rules import blocks, heads_out, linear, norm, tokens
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
    "facebook_probe_tensors",
    "hugging_face_probe_tensors",
    "probe_from_facebook",
    "probe_leaves",
    "probe_tensors",
    "probe_to_facebook",
]

CROSS = "pooler.cross_attention_block"


def _rules(prefix: str, *, depth: int, heads: int, complete: bool) -> list[Rule]:
    cross = f"{prefix}{CROSS}"
    attention = f"{cross}.xattn" if complete else cross
    around = [
        *norm("cross/norm1", f"{cross}.norm1"),
        *norm("cross/norm2", f"{cross}.norm2"),
        *linear("cross/mlp/fc1", f"{cross}.mlp.fc1"),
        *linear("cross/mlp/fc2", f"{cross}.mlp.fc2"),
    ]
    return [
        tokens("query", f"{prefix}pooler.query_tokens"),
        *(blocks("trunk/blocks", f"{prefix}pooler.blocks.", depth, heads) if depth else []),
        *heads_out("cross/q", f"{attention}.q", features=(heads,)),
        *heads_out("cross/kv", f"{attention}.kv", features=(2, heads)),
        *(around if complete else []),
        *linear("linear", f"{prefix}linear"),
    ]


def probe_leaves(weights: Tensors, heads: int, prefix: str = "") -> dict[str, Deferred]:
    """Leaves of a probe by path, from facebookresearch names (`pooler.query_tokens`, `linear.weight`, ...).

    Raises ValueError naming the tensors that are missing or do not fit `heads`.
    """
    complete = f"{prefix}{CROSS}.q.weight" not in weights
    depth = count_layers(weights, f"{prefix}pooler.blocks.")
    return read_leaves(_rules(prefix, depth=depth, heads=heads, complete=complete), weights)


def probe_tensors(params: Params, prefix: str = "") -> dict[str, Deferred]:
    """The inverse of `probe_leaves`, from a nested parameter tree."""
    heads = leaf_at(params, "cross/q/kernel").shape[1]
    depth = leaf_at(params, "trunk/blocks/norm1/scale").shape[0] if "trunk" in params else 0
    return write_tensors(_rules(prefix, depth=depth, heads=heads, complete="norm1" in params["cross"]), params)


def probe_from_facebook(weights: Tensors, heads: int, prefix: str = "") -> Params:
    """Probe parameters from facebookresearch names, all read; see `probe_leaves`."""
    return nested(probe_leaves(weights, heads, prefix))


def probe_to_facebook(params: Params, prefix: str = "") -> dict[str, np.ndarray]:
    """The inverse of `probe_from_facebook`."""
    return read_all(probe_tensors(params, prefix))
