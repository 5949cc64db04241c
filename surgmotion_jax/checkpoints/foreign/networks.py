"""Weights of a release, ready to be written in any format: networks under one set of names, read tensor by tensor.

Facebookresearch's names are the common ground: every other style is renamed to them on the way in, and to ours or
transformers' on the way out. Each array knows the names of the source that it is made of, which is what makes the
accounting complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from surgmotion_jax.checkpoints.foreign.accounting import Entry
from surgmotion_jax.checkpoints.foreign.families import SHOWN, Recognised, reason_for_value, recognise
from surgmotion_jax.checkpoints.foreign.weight_files import StoredTensor, WeightFile
from surgmotion_jax.models.hugging_face_names import facebook_probe_tensors, facebook_tensors
from surgmotion_jax.models.name_rules import Deferred
from surgmotion_jax.models.probe_names import probe_leaves
from surgmotion_jax.models.reference_names import encoder_leaves, predictor_leaves

FLOATING = ("float32", "bfloat16", "float16", "float64")

Tensors = Mapping[str, Deferred]
_LEAVES: dict[str, Callable[..., dict[str, Deferred]]] = {
    "target": encoder_leaves,
    "encoder": encoder_leaves,
    "predictor": predictor_leaves,
    "probe": probe_leaves,
}


class IncompleteWeights(ValueError):
    """Tensors are missing, left over, or of a kind that weights cannot be; the message names them."""


class Shaped(Protocol):
    """Anything with a shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class Typed(Shaped, Protocol):
    """Anything with a shape and a dtype."""

    @property
    def dtype(self) -> np.dtype: ...


@dataclass(frozen=True)
class Foreign:
    """The networks of a source (`target`, `encoder`, `predictor`, `probe`), under bare facebookresearch names.

    Their arrays come out as float32. `originals` are shape and dtype of all tensors by full name; `ignored` gives the
    names in no network, values that are no tensors among them, their reason.
    """

    family: str  # a key of FAMILIES, or "ours"
    title: str
    networks: Mapping[str, Tensors]
    originals: Mapping[str, Typed]
    ignored: Mapping[str, str] = field(default_factory=dict)

    def without(self, networks: Sequence[str], reason: str) -> Foreign:
        """The same without some networks, whose tensors are then ignored for that reason."""
        left = {
            source: reason
            for network in networks
            for tensor in self.networks.get(network, {}).values()
            for source in tensor.sources
        }
        kept = {name: tensors for name, tensors in self.networks.items() if name not in networks}
        return replace(self, networks=kept, ignored={**self.ignored, **left})

    def dtypes(self) -> Counter[str]:
        """How many tensors of the networks are stored in each dtype."""
        sources = {s for tensors in self.networks.values() for tensor in tensors.values() for s in tensor.sources}
        return Counter(np.dtype(self.originals[source].dtype).name for source in sources)

    def accounts(self, arrays: Mapping[str, Deferred]) -> list[Entry]:
        """What became of every name, given the arrays that were written, by place.

        Raises IncompleteWeights if a name is in no array and was not ignored.
        """
        places: dict[str, list[str]] = {}
        for place, array in arrays.items():
            for source in dict.fromkeys(array.sources):
                places.setdefault(source, []).append(place)
        lost = [name for name in self.originals if name not in places and name not in self.ignored]
        if lost:
            raise IncompleteWeights(f"{listed(lost)} are in nothing that would be written, and no reason was given.")
        entries = [_entry(name, tensor, places, self.ignored) for name, tensor in self.originals.items()]
        return entries + [Entry(n, (), "", (), reason) for n, reason in self.ignored.items() if n not in self.originals]


def _entry(name: str, tensor: Typed, places: Mapping[str, Sequence[str]], ignored: Mapping[str, str]) -> Entry:
    shape = tuple(int(size) for size in tensor.shape)
    return Entry(name, shape, np.dtype(tensor.dtype).name, tuple(places.get(name, ())), ignored.get(name, ""))


def read_foreign(file: WeightFile) -> Foreign:
    """The networks of a weight file; no tensor is read yet.

    Raises UnknownWeights for names that fit no release, IncompleteWeights for tensors that are not floating-point.
    """
    found = recognise(str(file.path), file.sections)
    networks = {
        network: {name: _deferred(found.names[network, name], tensor) for name, tensor in tensors.items()}
        for network, tensors in found.parts.items()
    }
    extras = {name: reason_for_value(name) for name in file.extras}
    return Foreign(
        found.key, found.family.title, _facebook(found, networks), found.originals, {**found.ignored, **extras}
    )


def _deferred(full_name: str, tensor: StoredTensor) -> Deferred:
    dtype = np.dtype(tensor.dtype).name
    if dtype not in FLOATING:
        raise IncompleteWeights(
            f"{full_name} holds {dtype}; weights are one of {', '.join(FLOATING)}. Quantised weights cannot be read."
        )

    def read() -> np.ndarray:
        return np.asarray(tensor.read()).astype(np.float32, copy=False)

    return Deferred(tuple(tensor.shape), np.dtype(np.float32), (full_name,), read)


def _facebook(found: Recognised, networks: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """Bare facebookresearch names, whatever the style."""
    if found.family.style == "facebook":
        return dict(networks)
    prefixes = {network: prefix for network, prefix in _PREFIXES.items() if network in networks}
    together = {name: tensor for network in prefixes for name, tensor in networks[network].items()}
    try:
        renamed = facebook_tensors(together)
        probe: dict[str, Tensors] = {"probe": facebook_probe_tensors(networks["probe"])} if "probe" in networks else {}
    except ValueError as error:
        raise IncompleteWeights(str(error)) from error
    split: dict[str, Tensors] = {
        network: {name.removeprefix(p): tensor for name, tensor in renamed.items() if name.startswith(p)}
        for network, p in prefixes.items()
    }
    return split | probe


_PREFIXES = {"target": "encoder.", "predictor": "predictor."}


def leaves_of(network: str, tensors: Tensors, heads: int, expected: Mapping[str, Shaped]) -> dict[str, Deferred]:
    """Our leaves of a network, by path. `expected` maps the paths of the architecture to anything with a shape.

    Raises IncompleteWeights naming every tensor that is missing, of another shape, or that no leaf takes.
    """
    try:
        leaves = _LEAVES[network](tensors, heads)
    except ValueError as error:
        raise IncompleteWeights(f"{network}: {error}") from error
    taken = {source for leaf in leaves.values() for source in leaf.sources}
    over = [source for tensor in tensors.values() for source in tensor.sources if source not in taken]
    if over:
        raise IncompleteWeights(
            f"{network}: {listed(over)} fit no layer of this architecture, and nothing is dropped without being asked; "
            "the file holds a model that is not read, or is damaged."
        )
    wrong = [
        f"{path}: {_shape(leaves.get(path))} in the source, {_shape(expected.get(path))} in the architecture"
        for path in sorted(leaves.keys() | expected.keys())
        if _shape(leaves.get(path)) != _shape(expected.get(path))
    ]
    if wrong:
        raise IncompleteWeights(f"{network}: tensors do not fit the architecture:\n  " + "\n  ".join(wrong[:SHOWN]))
    return leaves


def _shape(leaf: Shaped | None) -> str:
    return "absent" if leaf is None else str(list(leaf.shape))


def listed(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
