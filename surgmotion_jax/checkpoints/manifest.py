"""The manifest: what a checkpoint holds and where it comes from, stored beside its arrays.

It is the contract between pretraining, weight conversion and evaluation: a reader needs no template to know
the architecture and the tree, and refuses what does not fit before it loads a byte.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict

import jax
import numpy as np

from surgmotion_jax.checkpoints.errors import CheckpointOfAnotherSchema
from surgmotion_jax.checkpoints.tree import Array, Tree, leaves_by_path
from surgmotion_jax.differences import ABSENT, differences
from surgmotion_jax.storage import Json

SCHEMA_VERSION = 1
KINDS = ("pretrain", "encoder", "weights")
_PACKAGES = {"package": "surgmotion-jax", "jax": "jax", "flax": "flax", "orbax": "orbax-checkpoint"}
_LEAF_FIELDS = {"shape", "dtype", "digest"}


class LeafEntry(TypedDict):
    """What the manifest says of one leaf."""

    shape: list[int]
    dtype: str  # NumPy's name of it
    digest: NotRequired[str]  # 16 hexadecimal digits; always there in a manifest


Kind = Literal["pretrain", "encoder", "weights"]


@dataclasses.dataclass(frozen=True)
class ManifestFields:
    """What the caller of a save knows: plain JSON values, string keys.

    `architecture` is what must agree for the arrays to make sense (variant, widths, patch, RoPE convention);
    `config` is the whole run's configuration; `source` is the file name and sha256 of converted weights, or
    None.
    """

    kind: Kind
    architecture: Mapping[str, Json]
    config: Mapping[str, Json]
    source: Mapping[str, Json] | None = None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """See the module; `tree` maps each leaf's path to its entry."""

    kind: Kind
    step: int
    architecture: dict[str, Json]
    config: dict[str, Json]
    versions: dict[str, str]
    tree: dict[str, LeafEntry]
    source: dict[str, Json] | None = None
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON values, with a checksum. Raises ValueError naming a field that is not JSON."""
        fields = {field.name: _as_json(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)}
        return fields | {"checksum": _checksum(fields)}

    @classmethod
    def from_dict(cls, fields: Json, where: str) -> Manifest:
        """Checks and reads `to_dict`'s value; `where` names the file in errors.

        Raises CheckpointOfAnotherSchema; ValueError on a missing or unknown field, an unknown kind, a leaf entry
        that is not complete, or a checksum that does not match.
        """
        if not isinstance(fields, dict) or "schema_version" not in fields:
            raise ValueError(f"{where}: no schema_version; this is not a checkpoint manifest")
        if fields["schema_version"] != SCHEMA_VERSION:
            raise CheckpointOfAnotherSchema(
                f"{where}: schema_version {fields['schema_version']!r}, this version reads {SCHEMA_VERSION}; "
                "read it with the version of the package that wrote it"
            )
        _check_names(fields, {field.name for field in dataclasses.fields(cls)} | {"checksum"}, where)
        values = {name: value for name, value in fields.items() if name != "checksum"}
        if fields["checksum"] != _checksum(values):
            raise ValueError(f"{where}: the checksum does not match, the manifest was damaged or edited by hand")
        if values["kind"] not in KINDS:
            raise ValueError(f"{where}: kind {values['kind']!r}, allowed are {list(KINDS)}")
        for path, leaf in values["tree"].items():
            _check_names(leaf, _LEAF_FIELDS, f"{where}: tree: {path}")
        return cls(**values)

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "manifest") -> Manifest:
        """Reads `to_json`'s text; errors as in `from_dict`, and ValueError if it is not JSON."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}:{error.lineno}: not valid JSON ({error.msg})") from error
        return cls.from_dict(fields, where)


def describe(
    step: int, leaves: Mapping[str, Array | jax.ShapeDtypeStruct], digests: Mapping[str, str], fields: ManifestFields
) -> Manifest:
    """The manifest of a state given as path -> array and path -> digest."""
    tree = {path: _leaf_entry(leaf) | {"digest": digests[path]} for path, leaf in leaves.items()}
    return Manifest(
        kind=fields.kind,
        step=int(step),
        architecture=dict(fields.architecture),
        config=dict(fields.config),
        versions=installed_versions(),
        tree=tree,
        source=None if fields.source is None else dict(fields.source),
    )


def compare_tree(manifest: Manifest, abstract_tree: Tree) -> list[str]:
    """Differences between a checkpoint's leaves and those of a state, one sentence each; [] if there are
    none.

    A dtype that differs is a difference: restoring across dtypes would cast without a word.
    """
    wanted = {path: _leaf_entry(leaf) for path, leaf in leaves_by_path(abstract_tree).items()}
    missing = [f"{path}: not in the checkpoint" for path in wanted if path not in manifest.tree]
    unexpected = [f"{path}: in the checkpoint, not requested" for path in manifest.tree if path not in wanted]
    changed = [
        f"{path}: {field} {manifest.tree[path][field]} in the checkpoint, {entry[field]} requested"
        for path, entry in wanted.items()
        if path in manifest.tree
        for field in ("shape", "dtype")
        if manifest.tree[path][field] != entry[field]
    ]
    return missing + unexpected + changed


def compare_fields(saved: object, wanted: object, prefix: str) -> list[str]:
    """Differences between two JSON values, a sentence a field with its dotted path; [] if they are equal."""
    return [
        f"{field}: {'not' if before is ABSENT else repr(before)} in the checkpoint, "
        f"{'not' if after is ABSENT else repr(after)} requested"
        for field, before, after in differences(saved, wanted, prefix)
    ]


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a checkpoint means."""
    versions = {"python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"  # the package itself, when run from a checkout
    return versions


def _leaf_entry(leaf: Array | jax.ShapeDtypeStruct) -> LeafEntry:
    return {"shape": [int(size) for size in leaf.shape], "dtype": np.dtype(leaf.dtype).name}


def _as_json(name: str, value: object) -> Json:
    """The value as JSON would read it back: tuples become lists, so it compares equal after a round trip."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"manifest field {name}: {error}; allowed are finite numbers, strings, lists, dicts and None"
        ) from error


def _checksum(fields: Mapping[str, Json]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_names(fields: object, expected: set[str], where: str) -> None:
    found = set(fields) if isinstance(fields, dict) else set()
    if found != expected:
        missing, unknown = sorted(expected - found), sorted(found - expected)
        raise ValueError(f"{where}: missing fields {missing}, unknown fields {unknown}; expected {sorted(expected)}")
