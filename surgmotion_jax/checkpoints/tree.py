"""Trees of arrays seen as a flat table from path to leaf, and as nested dicts.

A path is the leaf's keys joined by "/", such as `params/blocks/attention/qkv/kernel`. Checkpoints are stored
by path, so they depend on names alone, not on the container classes of the program that wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

Tree: TypeAlias = Any  # nested containers of arrays, or of what stands for arrays (`jax.ShapeDtypeStruct`)
Array: TypeAlias = jax.Array | np.ndarray
Nested: TypeAlias = dict[str, Any]  # nested dicts with arrays as leaves


def leaves_by_path(tree: Tree) -> dict[str, Array]:
    """Path -> leaf, in the order of `jax.tree.leaves`; None and empty containers hold no leaf.

    Raises ValueError if a leaf is not an array (or its abstract shape and dtype), is a typed PRNG key, or if
    two leaves would have one path.
    """
    table: dict[str, Array] = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        _check_path(path, keys, table)
        _check_leaf(path, leaf)
        table[path] = leaf
    return table


def nest(table: Mapping[str, object]) -> Nested:
    """The nested dict whose leaves lie at the paths of `table`."""
    root: Nested = {}
    for path, leaf in table.items():
        *parents, name = path.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return root


def _check_path(path: str, keys: jax.tree_util.KeyPath, table: Mapping[str, Array]) -> None:
    names = [jax.tree_util.keystr((key,), simple=True) for key in keys]
    if not names or any("/" in name or not name for name in names):
        raise ValueError(
            f"state leaf {names}: every leaf needs a name and no name may hold '/'; keep leaves in a dict or dataclass"
        )
    if path in table:
        raise ValueError(f"state leaf {path}: two leaves have this path; rename one")


def _check_leaf(path: str, leaf: object) -> None:
    if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
        raise ValueError(f"state leaf {path}: {type(leaf).__name__} found, arrays only allowed; wrap it in jnp.asarray")
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"state leaf {path}: a typed PRNG key cannot be stored; keep jax.random.key_data(key)")
