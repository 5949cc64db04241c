"""Command lines: a command declares its arguments as the fields of a frozen dataclass, and reads argv into it.

    @dataclass(frozen=True)
    class Request:
        video: str = positional("VIDEO", "file or folder")
        out: str = flag("DIR", "a new folder")  # without a default it must be given
        cases: int = flag("N", "how many cases", default=6, least=1)
        dense: bool = switch("also store depth")

    LINE = CommandLine("simulate", __doc__, Request)

    def main(argv: Sequence[str]) -> int:
        return LINE.run(argv, simulate)  # simulate(request: Request) -> exit code

The type of a field says how its text is read: `str`, `int`, `float`, `bool` (a switch), `Literal` (one of these),
`X | None`, and `tuple[str, ...]` (as often as wanted). The flag of a field `dry_run` is `--dry-run`, also spelt
`--dry_run`; its value follows `=` or a space, and the last one counts. A check of several flags together belongs in
the class's `__post_init__`. Every error is a ValueError that names the flag, what was found and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from surgmotion_jax import config as door
from surgmotion_jax.checks import at_least, did_you_mean, one_of

R = TypeVar("R")
T = TypeVar("T")

Kind = Literal["positional", "flag", "switch", "shorthand", "config"]
Configs = Literal["pretraining", "evaluation", "study"]
HELP = ("-h", "--help")
WIDTH = 120  # columns of the help
KEY = "argument"  # where a field keeps its Argument


class Absent:
    """The default of an argument that must be given."""


ABSENT: Final = Absent()


@dataclass(frozen=True)
class Argument:
    """How one field is given on a command line."""

    kind: Kind
    placeholder: str  # what stands for its value, "" for a switch
    help: str
    read: Callable[[str], object] | None = None  # instead of the reader of the field's type
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    field: str = ""  # shorthand: the field of the config that it stands for
    configs: Configs = "pretraining"  # config: which kind
    show_default: bool = True


def positional(placeholder: str, help: str, *, default: T | Absent = ABSENT) -> T:
    """An argument by its place; of type `tuple[str, ...]`, all that are left, at least one."""
    return _field(Argument("positional", placeholder, help), default)


def flag(
    placeholder: str,
    help: str,
    *,
    default: T | Absent = ABSENT,
    read: Callable[[str], T] | None = None,
    choices: Sequence[str] = (),
    least: float | None = None,
    above: float | None = None,
    show_default: bool = True,
) -> T:
    """`--name=VALUE`. `read` turns the text into a value; its ValueError says what it must be ("it must be ...").

    The help shows the default unless the field's own words do (`show_default=False`).
    """
    argument = Argument("flag", placeholder, help, read, tuple(choices), least, above, show_default=show_default)
    return _field(argument, default)


def switch(help: str) -> bool:
    """`--name`, False where it is not given."""
    return _field(Argument("switch", "", help), False)


def shorthand(placeholder: str, help: str, field: str) -> str | None:
    """`--name=VALUE` for `--config.{field}=VALUE`: it is added to the flags of the class's `config_flags`."""
    return _field(Argument("shorthand", placeholder, help, field=field), None)


def config_flags(configs: Configs, help: str, *, required: bool = True, default: str | None = None) -> tuple[str, ...]:
    """`--config=FILE[:ARG]` and `--config.a.b=VALUE`, as they were given, for `configs.read_config`.

    `default` names the config that is meant where none is given.
    """
    start = ABSENT if required and default is None else () if default is None else (f"--config={default}",)
    return _field(Argument("config", "FILE[:ARG]", help, configs=configs), start)


def _field(argument: Argument, default: T | Absent) -> T:
    metadata = {KEY: argument}
    if isinstance(default, Absent):
        return typing.cast(T, dataclasses.field(metadata=metadata, kw_only=True))
    return typing.cast(T, dataclasses.field(default=default, metadata=metadata, kw_only=True))


def comma_list(text: str) -> tuple[str, ...]:
    """'a,b' as ('a', 'b')."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError("it must be names with a comma between each two.")
    return parts


@dataclass(frozen=True)
class Slot:
    """A field of a request: its name, how it is given, what it holds."""

    name: str
    argument: Argument
    type: object  # without None
    many: bool  # a tuple that grows with each time the argument is given
    default: object

    @property
    def title(self) -> str:
        """What a person types: `--dry-run`, `SRC`."""
        named = self.argument.kind != "positional"
        return f"--{self.name.replace('_', '-')}" if named else self.argument.placeholder

    @property
    def spelling(self) -> str:
        """The title with what stands for its value: `--out=DIR`."""
        valued = self.argument.kind not in ("positional", "switch")
        return f"{self.title}={self.argument.placeholder}" if valued else self.title

    @property
    def required(self) -> bool:
        return isinstance(self.default, Absent)


def slots_of(request: type[object]) -> list[Slot]:
    """The arguments of a request class, in the order of its fields."""
    hints = typing.get_type_hints(request)
    found = []
    for field in dataclasses.fields(request):  # type: ignore[arg-type]
        argument = field.metadata[KEY]
        default = ABSENT if field.default is dataclasses.MISSING else field.default
        kind, many = _kind(hints[field.name])
        found.append(Slot(field.name, argument, kind, many and argument.read is None, default))
    return found


def _kind(hint: object) -> tuple[object, bool]:
    """A field's type without None, or that of a tuple's parts, and whether it is a tuple."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


@dataclass(frozen=True)
class CommandLine(Generic[R]):
    """A command's name, what it does (the module's docstring), and its arguments."""

    command: str
    description: str | None
    request: type[R]
    more: Callable[[], str] | None = None  # text below the help, made when it is asked for

    def run(self, argv: Sequence[str], action: Callable[[R], int]) -> int:
        """Prints the help where it is asked for; else does what the command line asks. Returns the exit code."""
        if set(HELP) & set(argv):
            print(self.help())
            return 0
        return action(self.parse(argv))

    def parse(self, argv: Sequence[str]) -> R:
        """The request. Raises ValueError for an argument that is unknown, missing or cannot be read."""
        slots = slots_of(self.request)
        values = {slot.name: () if slot.many else slot.default for slot in slots}
        loose: list[str] = []
        for given in self._arguments(argv, slots):
            if isinstance(given, str):
                loose.append(given)
                continue
            slot, text = given
            value = _read(slot, text)
            values[slot.name] = (*_tuple(values[slot.name]), value) if slot.many else value
        values |= self._place(slots, loose)
        for slot in slots:
            if slot.argument.kind == "config":
                values[slot.name] = self._with_file(slot, _tuple(values[slot.name]))
            elif slot.many and not values[slot.name]:
                values[slot.name] = slot.default
            if isinstance(values[slot.name], Absent):
                raise self._missing(slot)
        _add_shorthands(slots, values)
        return self.request(**values)

    def _arguments(self, argv: Sequence[str], slots: Sequence[Slot]) -> Iterator[str | tuple[Slot, str]]:
        """The command line, piece by piece: (flag, text of its value), or an argument by its place."""
        by_title = {slot.title: slot for slot in slots if slot.argument.kind != "positional"}
        left = list(argv)
        while left:
            word = left.pop(0)
            if word == "--":
                yield from left
                return
            if not word.startswith("--"):
                yield word
                continue
            name, equals, text = word.partition("=")
            found = by_title.get("--config" if name.startswith("--config.") else name.replace("_", "-"))
            if found is None:
                raise self._unknown(word, slots)
            if found.argument.kind == "switch":
                if equals:
                    raise ValueError(f"{found.title} takes no value; found {text!r}. Leave it out to switch it off.")
            elif not equals:
                if not left or left[0].startswith("--"):
                    raise ValueError(f"{name} needs a value: {found.spelling}, {found.argument.help}; {self._see}.")
                text = left.pop(0)
            yield found, f"{name}={text}" if found.argument.kind == "config" else text

    def help(self) -> str:
        """Usage, description, and a line for each argument."""
        slots = slots_of(self.request)
        needed = [slot.spelling + (" ..." if slot.many else "") for slot in slots if slot.required]
        optional = ["[flags]"] if any(not slot.required for slot in slots) else []
        usage = " ".join(["usage: surgmotion", self.command, *needed, *optional])
        rows = [row for slot in slots for row in _rows(slot)]
        below = [text for slot in slots for text in _config_notes(slot)] + ([self.more()] if self.more else [])
        parts = [usage, (self.description or "").strip(), "\n".join(_table(rows)), "\n".join(below)]
        return "\n\n".join(part for part in parts if part)

    @property
    def _see(self) -> str:
        return f"see surgmotion {self.command} --help"

    def _unknown(self, text: str, slots: Sequence[Slot]) -> ValueError:
        known = [slot.title for slot in slots if slot.argument.kind != "positional"]
        name = text.partition("=")[0]
        hint = did_you_mean(name if name.startswith("-") else f"--{name}", known)
        return ValueError(f"unknown argument {text!r}; {self._see}.{hint}")

    def _missing(self, slot: Slot) -> ValueError:
        return ValueError(f"{slot.title} is missing; give {slot.spelling}, {slot.argument.help}; {self._see}.")

    def _with_file(self, slot: Slot, given: tuple[object, ...]) -> tuple[object, ...]:
        """The flags of a config, its file first where it is the default."""
        if any(str(text).startswith("--config=") for text in given):
            return given
        if slot.required:
            raise self._missing(slot)
        default = _tuple(slot.default)
        if given and not default:
            raise ValueError(f"{given[0]} overrides a field, but there is no --config=FILE; {self._see}.")
        return (*default, *given)

    def _place(self, slots: Sequence[Slot], loose: Sequence[str]) -> dict[str, object]:
        """What arguments without a flag mean, by their order."""
        placed: dict[str, object] = {}
        left = list(loose)
        for slot in slots:
            if slot.argument.kind != "positional" or not left:
                continue
            placed[slot.name] = tuple(left) if slot.many else left[0]
            left = [] if slot.many else left[1:]
        if left:
            raise self._unknown(left[0], slots)
        return placed


def _tuple(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value


def _read(slot: Slot, text: str) -> object:
    """The value of one argument."""
    argument = slot.argument
    if argument.kind == "switch":
        return True
    if argument.read is not None:
        try:
            return argument.read(text)
        except ValueError as error:
            raise ValueError(f"{slot.title} is {text!r}; {error}") from None
    if argument.choices:
        one_of(slot.title, text, argument.choices)
    elif typing.get_origin(slot.type) is Literal:
        one_of(slot.title, text, typing.get_args(slot.type))
    if slot.type not in (int, float):
        return text
    number = _whole(slot.title, text) if slot.type is int else _number(slot.title, text)
    if argument.least is not None:
        at_least(slot.title, number, argument.least)
    if argument.above is not None and not number > argument.above:
        raise ValueError(f"{slot.title} is {number:g}; it must be a finite number above {argument.above:g}.")
    return number


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a whole number.") from None


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}; it must be a number.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {text}; it must be a finite number.")
    return number


def _add_shorthands(slots: Sequence[Slot], values: dict[str, object]) -> None:
    """Appends what shorthands stand for to the flags of the config."""
    given = [slot for slot in slots if slot.argument.kind == "shorthand" and values[slot.name] is not None]
    if given:
        (config,) = (slot.name for slot in slots if slot.argument.kind == "config")
        more = (f"--config.{slot.argument.field}={values[slot.name]}" for slot in given)
        values[config] = (*_tuple(values[config]), *more)


def _rows(slot: Slot) -> Iterator[tuple[str, str]]:
    """The lines of the help for one argument: how it is spelt, and what it means."""
    argument, default = slot.argument, slot.default
    if argument.kind == "config":
        yield slot.spelling, argument.help
        yield "--config.a.b=VALUE", "overrides a field of the config"
        return
    notes = [f"short for --config.{argument.field}"] if argument.kind == "shorthand" else []
    if slot.many and argument.kind == "flag":
        notes.append("may be repeated")
    if argument.show_default and not (slot.required or default is None or default is False or default in ("", ())):
        notes.append(f"default: {_shown(default)}")
    yield slot.spelling, argument.help + (f" ({'; '.join(notes)})" if notes else "")


def _shown(default: object) -> str:
    """A default as a person types it."""
    if isinstance(default, tuple):
        return ",".join(map(_shown, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _table(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max((len(left) for left, _ in rows), default=0) + 2
    for left, right in rows:
        lines = textwrap.wrap(right, WIDTH - width - 2)
        for number, line in enumerate(lines or [""]):
            yield f"  {left if not number else '':<{width}}{line}".rstrip()


def _config_notes(slot: Slot) -> Iterator[str]:
    """Which configs there are, and where their fields are explained."""
    if slot.argument.kind != "config":
        return
    evaluation = slot.argument.configs == "evaluation"
    names = [name for name in door.config_names() if name.startswith("evaluate/") == evaluation]
    yield f"shipped configs: {', '.join(names)}"
    yield f"surgmotion config {names[0] if names else 'FILE'} prints every field of one, with its value and meaning"
