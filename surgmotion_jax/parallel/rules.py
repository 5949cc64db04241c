"""The one table from logical axis names to mesh axes, and what must hold for a parameter to follow it."""

from __future__ import annotations

import math

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import KeyEntry

from surgmotion_jax.models.layout import Names
from surgmotion_jax.models.parameters import Axes, Params

MESH_AXES = ("data", "fsdp", "tensor")

Entry = str | tuple[str, ...] | None
"""Of a PartitionSpec: the mesh axes that divide a dimension."""

RULES: dict[str, Entry] = {
    # parameters
    "layers": None,  # scanned over
    "embed": "fsdp",  # the model width of every kernel
    "heads": "tensor",
    "mlp": "tensor",
    "norm": None,
    # activations
    "batch": ("data", "fsdp"),
    "act_embed": None,
    "act_heads": "tensor",
    "act_mlp": "tensor",
}


def spec_of(names: Names) -> PartitionSpec:
    """Mesh axes of an array whose dimensions carry these logical names."""
    unknown = [n for n in names if n is not None and n not in RULES]
    if unknown:
        raise ValueError(f"logical axes {unknown} of {names} have no rule; known are {', '.join(RULES)}.")
    return PartitionSpec(*(RULES[n] if n is not None else None for n in names))


def mesh_axes(entry: Entry) -> tuple[str, ...]:
    """Mesh axes of one entry of a PartitionSpec."""
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def parameter_sharding(mesh: Mesh, path: str, shape: tuple[int, ...], names: Names) -> NamedSharding:
    """Sharding of a parameter; ValueError where a mesh axis would be used twice or a dimension does not divide."""
    spec = spec_of(names)
    used: dict[str, int] = {}
    for dim, entry in enumerate(spec):
        axes = mesh_axes(entry)
        for axis in axes:
            if axis in used:
                raise ValueError(
                    f"parameter {path}: dimensions {used[axis]} and {dim} (names {names}) both map to mesh axis "
                    f"{axis!r}; change the rule of one of them."
                )
            used[axis] = dim
        parts = math.prod(mesh.shape[a] for a in axes)
        if shape[dim] % parts:
            raise ValueError(
                f"parameter {path}: dimension {dim} ({names[dim]!r}) of size {shape[dim]} is not divisible by mesh "
                f"axes {axes} of size {parts}; choose a size of --config.parallel.{axes[0]} that divides it."
            )
    return NamedSharding(mesh, spec)


def parameter_shardings(mesh: Mesh, abstract: Params, names: Axes) -> Params:
    """Shardings of a parameter tree, given the tree of logical names."""

    def one(path: tuple[KeyEntry, ...], leaf: jax.ShapeDtypeStruct, leaf_names: Names) -> NamedSharding:
        return parameter_sharding(mesh, jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape, leaf_names)

    return jax.tree_util.tree_map_with_path(one, abstract, names)
