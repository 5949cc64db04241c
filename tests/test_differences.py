"""Differences of nested values: each field once, by its path; lists are tuples, and no table is an empty table."""

from __future__ import annotations

import pytest

from surgmotion_jax.differences import ABSENT, changes, difference, differences, flatten

ONE = {"data": {"frames": 16, "size": 64}, "seed": 0, "layers": [1, 2]}


def test_each_field_that_differs_is_named_with_both_values():
    other = {"data": {"frames": 64, "size": 64, "fps": 1.0}, "seed": 0, "layers": [1, 3]}
    assert differences(ONE, other, "config") == [
        ("config.data.fps", ABSENT, 1.0),
        ("config.data.frames", 16, 64),
        ("config.layers", [1, 2], [1, 3]),
    ]
    assert differences(ONE, ONE, "config") == []
    assert differences({"a": 1}, None, "head") == [("head", {"a": 1}, None)]


def test_a_table_that_one_side_lacks_is_one_difference_or_a_line_for_each_field():
    assert differences({"a": {"b": 1, "c": 2}}, {}) == [("a", {"b": 1, "c": 2}, ABSENT)]
    assert differences({"a": {"b": 1}}, {}, absent=None) == [("a", {"b": 1}, None)]
    assert differences({"a": {"b": 1}}, {"a": 2}) == [("a", {"b": 1}, 2)]
    assert difference({"a": {"b": 1, "c": 2}}, {}) == ["a.b: 1 -> absent", "a.c: 2 -> absent"]


SAVED = {"a": 1, "b": {"c": (1, 2), "d": 2}, "s": {"x": {"path": "p", "fps": 1}, "y": {"path": "q", "fps": 1}}}
NOW = {"a": 1, "b": {"c": [1, 3], "e": 2}, "s": {"x": {"path": "P", "fps": 2}, "y": {"path": "Q", "fps": 1}}}


@pytest.mark.parametrize(
    ("ignored", "fields"),
    [
        ((), ["b.c", "b.d", "b.e", "s.x.fps", "s.x.path", "s.y.path"]),
        (("b",), ["s.x.fps", "s.x.path", "s.y.path"]),
        (("s.*.path",), ["b.c", "b.d", "b.e", "s.x.fps"]),
        (("s.x", "b.c"), ["b.d", "b.e", "s.y.path"]),
        (("s.*", "b.*"), []),
        (("s.*.pat", "*.y"), ["b.c", "b.d", "b.e", "s.x.fps", "s.x.path"]),
    ],
    ids=str,
)
def test_difference_leaves_out_what_is_ignored(ignored, fields):
    assert [line.partition(":")[0] for line in difference(SAVED, NOW, ignored)] == fields


def test_difference_shows_both_values_and_what_is_absent():
    lines = difference(SAVED, NOW)
    assert "b.c: (1, 2) -> (1, 3)" in lines
    assert "b.d: 2 -> absent" in lines
    assert "b.e: absent -> 2" in lines


def test_difference_takes_lists_for_tuples():
    assert difference({"a": [1, [2, 3]]}, {"a": (1, (2, 3))}) == []


def test_flatten_names_fields_by_their_dots():
    assert flatten({"a": {"b": [1], "c": {"d": 2}}, "e": 3}) == {"a.b": (1,), "a.c.d": 2, "e": 3}


def test_changes_are_the_fields_that_left_their_defaults():
    now = {"a": {"b": 1, "c": (1, 2)}, "new": "x", "same": 0.5}
    assert changes({"a": {"b": 0, "c": [1, 2]}, "same": 0.5, "gone": 3}, now) == {
        "a.b": [0, 1],
        "new": [None, "x"],
    }
