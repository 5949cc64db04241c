"""Where two nested tables of plain values differ: the one way in which configs and manifests are compared.

Bottom of the import order: this module imports nothing of the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()  # stands for the value of a field that one side does not have


class Difference(NamedTuple):
    """A field that differs, by its dotted path, with both values as they are."""

    field: str
    before: object
    after: object


def differences(before: object, after: object, field: str = "", absent: object = ABSENT) -> list[Difference]:
    """Each field that differs, sorted, by its dotted path below `field`. Lists and tuples compare equal.

    `absent` stands for the value that one side lacks; a table that one side lacks is one difference.
    """
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [] if frozen(before) == frozen(after) else [Difference(field, before, after)]
    return [
        found
        for name in sorted(before.keys() | after.keys())
        for found in differences(
            before.get(name, absent), after.get(name, absent), f"{field}.{name}" if field else name, absent
        )
    ]


def flatten(tree: object, prefix: str = "") -> dict[str, object]:
    """Nested mappings as {"a.b.c": value}; lists become tuples, so that JSON compares equal."""
    if isinstance(tree, Mapping):
        parts = (flatten(value, f"{prefix}.{name}" if prefix else str(name)) for name, value in tree.items())
        return {name: value for part in parts for name, value in part.items()}
    return {prefix: frozen(tree)}


def frozen(value: object) -> object:
    """The value with its lists as tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def changes(default: Mapping[str, object], current: Mapping[str, object]) -> dict[str, list[object]]:
    """Fields of `current` that are not as in `default`, by name: [default, current], None where there is no default."""
    found = differences(default, current)
    return {name: [None if before is ABSENT else before, after] for name, before, after in found if after is not ABSENT}


def difference(saved: Mapping[str, object], current: Mapping[str, object], ignored: Sequence[str] = ()) -> list[str]:
    """Fields that differ, as 'field: saved -> current' lines; tables that one side lacks field by field.

    `ignored` are sections or fields; `*` stands for one name.
    """
    patterns = [re.compile(re.escape(p).replace(r"\*", r"[^.]+") + r"(\..*)?$") for p in ignored]
    return [
        f"{field}: {before!r} -> {after!r}"
        for field, before, after in differences(flatten(saved), flatten(current))
        if not any(pattern.match(field) for pattern in patterns)
    ]
