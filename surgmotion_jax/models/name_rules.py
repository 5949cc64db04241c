"""One table, read both ways: which named tensors of another program make up which leaf of our parameter trees.

Nothing is read until a leaf is asked for, and then only that leaf: converting a file never holds two copies of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from surgmotion_jax.models.parameters import Params


class Tensor(Protocol):
    """An array, or what becomes one when NumPy asks: a tensor of a file, or `Deferred`. It may have a `dtype`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __array__(self) -> np.ndarray: ...


Tensors = Mapping[str, Tensor]
Leaf = np.ndarray | jax.Array
Transform = Callable[[np.ndarray], np.ndarray]

LISTED = 8  # names that an error message quotes


@dataclass(frozen=True)
class Deferred:
    """An array that is put together when it is called; shape, dtype and origin are known beforehand."""

    shape: tuple[int, ...]
    dtype: np.dtype | None  # None: not known before reading
    sources: tuple[str, ...]  # names of the tensors that it is made of
    read: Callable[[], np.ndarray]

    def __call__(self) -> np.ndarray:
        return self.read()

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        del copy  # each call makes its own array, or a view of what it was made from
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)


@dataclass(frozen=True)
class Rule:
    """A leaf of our tree and the tensors that hold it.

    `read` turns one tensor into the leaf and `write` is its inverse; a stacked leaf has one tensor per entry of its
    leading axis.
    """

    path: str
    names: tuple[str, ...]
    read: Transform
    write: Transform
    stacked: bool = False


def read_leaves(rules: Sequence[Rule], tensors: Tensors) -> dict[str, Deferred]:
    """Leaves by path, from named tensors.

    Raises ValueError naming every tensor that is missing, or one whose shape does not fit.
    """
    missing = [name for rule in rules for name in rule.names if name not in tensors]
    if missing:
        raise ValueError(
            f"{len(missing)} tensors are missing from the weights: {_listed(missing)}. They hold {_listed(tensors)}; "
            "check the prefix and that the file is whole."
        )
    return {rule.path: _leaf(rule, tensors) for rule in rules}


def _leaf(rule: Rule, tensors: Tensors) -> Deferred:
    parts = [tensors[name] for name in rule.names]
    odd = [n for n, part in zip(rule.names, parts, strict=True) if tuple(part.shape) != tuple(parts[0].shape)]
    if odd:
        raise ValueError(
            f"{odd[0]} has shape {tuple(tensors[odd[0]].shape)}, but {rule.names[0]} has {tuple(parts[0].shape)}; "
            "all layers must have the same shape."
        )
    try:
        shape = outline(rule.read, parts[0].shape)
    except ValueError as error:
        raise ValueError(
            f"{rule.names[0]} of shape {tuple(parts[0].shape)} does not fit {rule.path}: {error}; "
            "check the number of heads."
        ) from error

    def one() -> np.ndarray:
        return rule.read(np.asarray(parts[0]))

    def all_layers() -> np.ndarray:
        out = np.empty(0)
        for i, part in enumerate(parts):  # one tensor in memory at a time, beside the leaf
            layer = rule.read(np.asarray(part))
            out = out if i else np.empty((len(parts), *layer.shape), layer.dtype)
            out[i] = layer
        return out

    sources = tuple(s for n, part in zip(rule.names, parts, strict=True) for s in origin(part, n))
    if rule.stacked:
        return Deferred((len(parts), *shape), dtype_of(parts[0]), sources, all_layers)
    return Deferred(shape, dtype_of(parts[0]), sources, one)


def write_tensors(rules: Sequence[Rule], params: Params) -> dict[str, Deferred]:
    """Named tensors from a nested parameter tree; each is a view of its leaf where NumPy can make one."""
    out: dict[str, Deferred] = {}
    for rule in rules:
        leaf = leaf_at(params, rule.path)
        shape = outline(rule.write, leaf.shape[1:] if rule.stacked else leaf.shape)
        for i, name in enumerate(rule.names):

            def tensor(rule: Rule = rule, leaf: Leaf = leaf, i: int = i) -> np.ndarray:
                return rule.write(np.asarray(leaf[i] if rule.stacked else leaf))

            out[name] = Deferred(shape, dtype_of(leaf), (rule.path,), tensor)
    return out


def outline(transform: Transform, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape that a transform gives, found on an array that takes no memory."""
    return transform(np.broadcast_to(np.zeros((), np.int8), tuple(shape))).shape


def origin(value: Tensor, name: str) -> tuple[str, ...]:
    """Names that a tensor was made of: its own, unless it is itself made of others."""
    return value.sources if isinstance(value, Deferred) else (name,)


def dtype_of(value: Tensor | Leaf) -> np.dtype | None:
    """The dtype, or None where it is not known before reading."""
    return getattr(value, "dtype", None)


def leaf_at(params: Params, path: str) -> Leaf:
    """The leaf of a nested tree at 'a/b/c'. Raises ValueError if it is not there."""
    node: Any = params
    for key in path.split("/"):
        if not isinstance(node, Mapping) or key not in node:
            raise ValueError(f"the parameters have no leaf {path}; they hold {_listed(params)} at the top.")
        node = node[key]
    return node


def nested(leaves: Mapping[str, Deferred]) -> Params:
    """The parameter tree of leaves by path, all read."""
    tree: Params = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf()
    return tree


def read_all(tensors: Mapping[str, Deferred]) -> dict[str, np.ndarray]:
    """The same names with arrays."""
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def count_layers(tensors: Tensors, prefix: str) -> int:
    """How many numbers follow `prefix` in the names, counted from 0; gaps show up as missing tensors."""
    numbers = (name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix))
    return 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "nothing") + more
