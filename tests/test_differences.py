"""Differences of JSON values: each field once, by its path."""

from __future__ import annotations

from surgmotion_jax.evaluate.compare.differences import differing_fields


def test_each_field_that_differs_is_named_with_both_values():
    one = {"data": {"frames": 16, "size": 64}, "seed": 0, "layers": [1, 2]}
    other = {"data": {"frames": 64, "size": 64, "fps": 1.0}, "seed": 0, "layers": [1, 3]}
    assert differing_fields(one, other, "config") == [
        ("config.data.fps", None, 1.0),
        ("config.data.frames", 16, 64),
        ("config.layers", [1, 2], [1, 3]),
    ]
    assert differing_fields(one, one, "config") == []
    assert differing_fields({"a": 1}, None, "head") == [("head", {"a": 1}, None)]
