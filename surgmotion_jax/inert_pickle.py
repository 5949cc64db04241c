"""Reads a pickle as data: nothing that it names is imported, and nothing is called but functions its reader gave.

A pickle is a program for a stack machine, and Python's own machine imports and calls whatever the program names. The
machine here knows only the instructions that build plain values. A name stays a name (`Global`) unless the caller
gave a function for it, and then that function is called in its place.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, runtime_checkable

_KEY_TYPES = (str, int, float, bytes, type(None))


class PickleRefused(ValueError):
    """A pickle is malformed, too large or asks for more than plain values; the message says which."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A dotted name that a pickle mentions, such as `torch.FloatStorage`; nothing is behind it."""

    path: str

    def __repr__(self) -> str:
        return self.path


@runtime_checkable
class Settable(Protocol):
    """A value whose state a pickle may set, by a function of its reader."""

    def set_state(self, state: object) -> None: ...


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A harmless value that is not decoded, and what it is."""

    description: str

    def __repr__(self) -> str:
        return f"<{self.description}>"


def read_pickle(
    data: bytes,
    calls: Mapping[str, Callable[..., object]],
    names: Collection[str] = (),
    persistent: Callable[[object], object] | None = None,
) -> object:
    """The value of a pickle: dicts, lists, tuples, text, bytes, numbers, and what the given functions return.

    `calls` maps the dotted names that may be called to the functions called instead of them; `names` are further
    names that may be mentioned; `persistent` resolves a persistent identifier. State set on an object (`BUILD`) goes
    to `set_state` of a `Settable`, and is dropped for dicts and `Opaque` values.

    Raises PickleRefused for any other name or instruction, dict keys that are not text, bytes or numbers, and
    malformed input. What the functions raise passes through if it is a PickleRefused.
    """
    machine = _Machine(calls, names, persistent)
    where = "at its start"
    try:
        for opcode, argument, position in pickletools.genops(data):
            where = f"at byte {position} ({opcode.name})"
            machine.step(opcode.name, argument)
        return machine.result()
    except PickleRefused:
        raise
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise PickleRefused(f"a malformed pickle {where}: {error}") from error


class _Machine:
    """The stack, the values below each open mark, and the memo."""

    def __init__(
        self,
        calls: Mapping[str, Callable[..., object]],
        names: Collection[str],
        persistent: Callable[[object], object] | None,
    ) -> None:
        self._calls, self._names, self._persistent = calls, names, persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: object) -> None:
        if opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in _NEW:
            self._stack.append(_NEW[opcode]())
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self._stack[-count:] = [tuple(self._take(count))]
        elif opcode in _INSTRUCTIONS:
            _INSTRUCTIONS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise PickleRefused(f"the pickle instruction {opcode}, which plain data does not need")

    def result(self) -> object:
        (value,) = self._stack
        return value

    def _take(self, count: int) -> list[object]:
        if len(self._stack) < count:
            raise IndexError("the stack is empty")
        return self._stack[-count:]

    def mark(self, _: object) -> None:
        self._below.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[object]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def make_tuple(self, _: object) -> None:
        items = self.since_mark()
        self._stack.append(tuple(items))

    def make_list(self, _: object) -> None:
        items = self.since_mark()
        self._stack.append(items)

    def make_dict(self, _: object) -> None:
        items = self.since_mark()
        self._stack.append({})
        self._set(items)

    def append(self, _: object) -> None:
        self._extend([self._stack.pop()])

    def extend(self, _: object) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[object]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError("items for what is not a list")
        self._stack[-1].extend(items)

    def set_item(self, _: object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def set_items(self, _: object) -> None:
        self._set(self.since_mark())

    def _set(self, items: list[object]) -> None:
        if type(self._stack[-1]) is not dict or len(items) % 2:
            raise TypeError("entries for what is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, _KEY_TYPES):  # hashing nested tuples can exhaust the interpreter's C stack
                raise PickleRefused(f"a dict key of type {type(key).__name__}, allowed are text, bytes and numbers")
            self._stack[-1][key] = value

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def pop(self, _: object) -> None:
        self._stack.pop()

    def name(self, argument: str) -> None:
        self._name(".".join(argument.split(" ", 1)))

    def stack_name(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(f"{module}.{name}")

    def _name(self, path: str) -> None:
        if path not in self._calls and path not in self._names:
            raise PickleRefused(f"the pickle names {path[:100]}, which plain data does not need")
        self._stack.append(Global(path))

    def call(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Global) or function.path not in self._calls or type(arguments) is not tuple:
            raise PickleRefused(f"the pickle calls {_shown(function)}, which is not among what may be called")
        self._stack.append(self._calls[function.path](*arguments))

    def build(self, _: object) -> None:
        state, value = self._stack.pop(), self._stack[-1]
        if isinstance(value, Settable):
            value.set_state(state)
        elif not isinstance(value, dict | Opaque):
            raise PickleRefused(f"the pickle sets the state of {_shown(value)}")

    def persistent(self, _: object) -> None:
        if self._persistent is None:
            raise PickleRefused("a persistent identifier, which plain data does not need")
        self._stack.append(self._persistent(self._stack.pop()))


def _shown(value: object) -> str:
    return value.path if isinstance(value, Global) else f"a {type(value).__name__}"


_NUMBERS = ("INT", "LONG", "FLOAT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")
_TEXT = ("STRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING")
_LITERALS = frozenset((*_NUMBERS, *_TEXT, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))
_NEW: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.make_tuple,
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "POP": _Machine.pop,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
