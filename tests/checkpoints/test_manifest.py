"""The manifest's contract: it round-trips, and refuses what it does not know."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.manifest import (
    Manifest,
    ManifestFields,
    compare_fields,
    compare_tree,
    describe,
)

LEAVES = {"a/w": np.zeros((2, 3), np.float32), "a/b": np.zeros((), np.int32)}
SOURCE = {"file": "vitl.pt", "sha256": "0" * 64}
MANIFEST = describe(
    7,
    LEAVES,
    {"a/w": "0" * 16, "a/b": "f" * 16},
    ManifestFields("encoder", {"variant": "vit_l", "crop": (2, 16)}, {"lr": 1e-3}, SOURCE),
)


def altered(**changes):
    """The manifest's JSON with fields changed after its checksum was made, and a checksum made anew."""
    from surgmotion_jax.checkpoints import manifest

    fields = {name: value for name, value in MANIFEST.to_dict().items() if name != "checksum"} | changes
    return fields | {"checksum": manifest._checksum(fields)}


def test_round_trip_through_json():
    again = Manifest.from_json(MANIFEST.to_json())
    assert again.to_dict() == MANIFEST.to_dict()
    assert again.tree["a/w"] == {"shape": [2, 3], "dtype": "float32", "digest": "0" * 16}
    assert (again.step, again.kind, again.source, again.schema_version) == (7, "encoder", SOURCE, 1)
    assert set(again.versions) == {"package", "jax", "flax", "orbax", "python"}
    assert again.versions["jax"] == jax.__version__


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (altered(schema_version=2), "here: schema_version 2, this version reads 1"),
        (altered(kind="probe"), r"here: kind 'probe', allowed are \['pretrain', 'encoder', 'weights'\]"),
        (altered(surplus=1), r"unknown fields \['surplus'\]"),
        (altered(tree={"a/w": {"shape": [2]}}), r"here: tree: a/w: missing fields \['digest', 'dtype'\]"),
        ({"a": 1}, "no schema_version; this is not a checkpoint manifest"),
        ([1], "this is not a checkpoint manifest"),
        (MANIFEST.to_dict() | {"step": 8}, "the checksum does not match"),
    ],
)
def test_what_is_not_a_manifest_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Manifest.from_dict(fields, "here")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Manifest)] + ["checksum"])
def test_each_missing_field_is_named(name):
    fields = MANIFEST.to_dict()
    del fields[name]
    with pytest.raises(ValueError, match=name):
        Manifest.from_dict(fields, "here")


def test_bad_json_and_values_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="manifest:1: not valid JSON"):
        Manifest.from_json("{")
    with pytest.raises(ValueError, match=r"manifest field config: .*finite numbers"):
        dataclasses.replace(MANIFEST, config={"lr": float("inf")}).to_json()


def test_compare_tree_names_every_difference():
    assert compare_tree(MANIFEST, {"a": {"w": LEAVES["a/w"], "b": LEAVES["a/b"]}}) == []
    wanted = {"a": {"w": np.zeros((2, 4), np.float16), "c": np.zeros(1)}}
    assert compare_tree(MANIFEST, wanted) == [
        "a/c: not in the checkpoint",
        "a/b: in the checkpoint, not requested",
        "a/w: shape [2, 3] in the checkpoint, [2, 4] requested",
        "a/w: dtype float32 in the checkpoint, float16 requested",
    ]


def test_compare_fields_walks_nested_values_and_takes_tuples_for_lists():
    saved = json.loads(MANIFEST.to_json())["architecture"]
    assert compare_fields(saved, MANIFEST.architecture, "architecture") == []
    assert compare_fields({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "d": 2}}, "config") == [
        "config.a.b: 1 in the checkpoint, 3 requested",
        "config.a.c: 2 in the checkpoint, not requested",
        "config.a.d: not in the checkpoint, 2 requested",
    ]
