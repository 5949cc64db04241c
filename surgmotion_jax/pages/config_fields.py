"""A config as a table: every field with its value, its default, and the comment of its definition.

Comments are read from the source of the dataclasses, so that what is printed is what is written there.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import itertools
import re
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Values = Mapping[str, object]
WIDTH = 120  # columns


class Row(NamedTuple):
    """A field, or the head of a section (`value` is None)."""

    name: str  # as in `--config.optim.lr`, without the dashes: `optim.lr`
    value: str | None
    default: str | None  # None where the value is the default
    comment: str


def rows_of(cls: type, values: Values, prefix: str = "", like: object = None) -> Iterator[Row]:
    """The fields of a config class with the values that a config gives them; sections after the fields beside them.

    Defaults are those of the class, or of the instance `like`.
    """
    comments, hints = comments_of(cls), typing.get_type_hints(cls)
    sections = []
    for field in dataclasses.fields(cls):
        name, value, hint = f"{prefix}{field.name}", values[field.name], hints[field.name]
        if isinstance(value, Mapping) and (dataclasses.is_dataclass(hint) or value):
            sections.append((field, name, value, hint))
            continue
        default = _default(field) if like is None else getattr(like, field.name)
        shown = None if _spelt(default) == _spelt(value) else _spelt(default)
        yield Row(name, _spelt(value), shown, comments[field.name])
    for field, name, value, hint in sections:
        if "choices" in field.metadata:
            yield Row(name, None, None, comments[field.name] or _summary(hint))
            yield from _choices(name, value, field.metadata["choices"]())
        elif "entries" in field.metadata:
            for key, part in field.metadata["entries"]().items():
                yield Row(f"{name}.{key}", None, None, _summary(part))
                yield from rows_of(part, value[key], f"{name}.{key}.")
        elif dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            yield Row(name, None, None, comments[field.name] or _summary(hint))
            yield from rows_of(hint, value, f"{name}.")
        else:
            yield from _entries(name, value, typing.get_args(hint)[1], _default(field))


def _entries(name: str, values: Values, cls: type, default: object) -> Iterator[Row]:
    """A mapping from names to configs of one class."""
    for key, part in values.items():
        assert isinstance(part, Mapping)
        yield Row(f"{name}.{key}", None, None, _summary(cls))
        yield from rows_of(cls, part, f"{name}.{key}.", default.get(key) if isinstance(default, Mapping) else None)


def _choices(name: str, values: Values, classes: Mapping[str, type]) -> Iterator[Row]:
    """The fields of all classes that a section can be of, each once."""
    seen: set[str] = set()
    for cls in classes.values():
        fields = {field.name for field in dataclasses.fields(cls)}
        for row in rows_of(cls, values, f"{name}."):
            if row.name.removeprefix(f"{name}.").partition(".")[0] not in seen:
                yield row
        seen |= fields


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _default(field: dataclasses.Field[object]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "" if field.default is dataclasses.MISSING else field.default


def _spelt(value: object) -> str:
    """A value as it is typed after `--config.field=`."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        inner = ",".join(repr(part) if isinstance(part, str) else _spelt(part) for part in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return "{}" if isinstance(value, Mapping) else str(value)


def comments_of(cls: type) -> dict[str, str]:
    """The comment of each field of a dataclass: at the end of its line, or on lines of their own right above it."""
    found = dict.fromkeys((field.name for field in dataclasses.fields(cls)), "")
    for owner in reversed(cls.__mro__[:-1]):
        found |= {name: text for name, text in _comments(owner).items() if name in found}
    return found


def _comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    comment_of = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for number, line in enumerate(lines, 1):
        field = re.match(r"    (\w+): ", line)
        if field is None:
            continue
        last = number
        while last not in comment_of and lines[last - 1].rstrip().endswith(("(", ",", "[", "{")):
            last += 1  # a default that goes on over several lines
        above = _above(lines, comment_of, number)
        found[field[1]] = " ".join([*above, *([comment_of[last]] if last in comment_of else [])])
    return found


def _above(lines: list[str], comment_of: Mapping[int, str], number: int) -> list[str]:
    """Comments on lines of their own that end right above a line."""
    first = number
    while first - 1 in comment_of and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return [comment_of[line] for line in range(first, number)]


def as_text(rows: Iterator[Row]) -> Iterator[str]:
    """The rows for a terminal, each field spelt as a flag."""
    for is_head, group in itertools.groupby(rows, lambda row: row.value is None):
        listed = list(group)
        if is_head:
            yield from (f"\n{row.name}: {row.comment}" for row in listed)
            continue
        width = min(max(len(_flag(row)) for row in listed), WIDTH // 2)
        for row in listed:
            told = row.comment + ("" if row.default is None else f" (default: {row.default or 'none'})")
            start = f"  {_flag(row):<{width}}  "
            first, *more = textwrap.wrap(told, max(WIDTH - len(start), 40)) or [""]
            yield (start + first).rstrip()
            yield from (" " * (width + 4) + line for line in more)


def _flag(row: Row) -> str:
    return f"--config.{row.name}={row.value}"
