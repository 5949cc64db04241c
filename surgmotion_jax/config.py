"""The door between ConfigDicts, which users override by flags, and frozen dataclasses, which the code reads.

A config file's `get_config(arg)` starts from `defaults(Section)`, changes fields and returns the locked ConfigDict;
`build` turns it into the dataclass. Config files are Python: run only those you trust.

Two kinds of section follow from tables that can grow. The field of such a section says so in its metadata, with a
function that gives names and classes: under `entries` it is a mapping with one section for each name; under `choices`
it is a section of the class that its own field `kind` names, and its flags are those of all classes together.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import importlib.resources
import importlib.util
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags
from ml_collections import ConfigDict, config_flags

from surgmotion_jax.checks import did_you_mean

T = TypeVar("T")


class ConfigError(ValueError):
    """A config file, flag or field that cannot be used."""


Classes = Mapping[str, type]


def _default(field: dataclasses.Field[Any], kind: Any) -> Any:
    if "entries" in field.metadata:
        return ConfigDict({name: defaults(cls) for name, cls in field.metadata["entries"]().items()})
    if "choices" in field.metadata:
        assert field.default_factory is not dataclasses.MISSING
        return _all_defaults(field.metadata["choices"](), field.default_factory().kind)
    if dataclasses.is_dataclass(kind):
        return defaults(kind)
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        if isinstance(value, Mapping):
            return ConfigDict({k: dataclasses.asdict(v) for k, v in value.items()})
        return value
    raise TypeError(f"{field.name} has no default")


def _all_defaults(choices: Classes, kind: str) -> ConfigDict:
    """Fields of all classes with their defaults; where two have a field of one name, the first one's counts."""
    merged = ConfigDict({"kind": kind})
    for cls in choices.values():
        merged.update({name: value for name, value in defaults(cls).items() if name not in merged})
    return merged


def defaults(cls: Any) -> ConfigDict:
    """The defaults of a config dataclass as a ConfigDict, unlocked, so that a config file can add entries."""
    hints = typing.get_type_hints(cls)
    return ConfigDict({f.name: _default(f, hints[f.name]) for f in dataclasses.fields(cls)})


def entry(cls: Any, **values: Any) -> ConfigDict:
    """One entry of a mapping field (a data source, a mask set): the class's defaults and `values`."""
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    _check_names(cls.__name__, values, known)
    missing = object()
    filled = {n: values.get(n, missing) for n in known}
    return ConfigDict({n: _default(known[n], hints[n]) if v is missing else v for n, v in filled.items()})


def build(cls: type[T], config: Mapping[str, Any], path: str = "config") -> T:
    """The dataclass `cls` from a ConfigDict.

    Raises ConfigError naming the field, what was found and what is allowed.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    _check_names(path, config, known)
    values = {}
    for name, value in config.items():
        values[name] = _built(known[name], hints[name], value, f"{path}.{name}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from None
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _built(field: dataclasses.Field[Any], kind: Any, value: Any, path: str) -> Any:
    if "entries" in field.metadata:
        return _build_entries(field.metadata["entries"](), value, path)
    if "choices" in field.metadata:
        assert field.default_factory is not dataclasses.MISSING
        return _build_choice(field.metadata["choices"](), value.get("kind", field.default_factory().kind), value, path)
    return _value(kind, value, path)


def _build_entries(classes: Classes, value: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A section of each class, in the order of the table; what is not given has its defaults."""
    _check_names(path, value, classes)
    return {name: build(cls, value.get(name, {}), f"{path}.{name}") for name, cls in classes.items()}


def _build_choice(choices: Classes, kind: Any, value: Mapping[str, Any], path: str) -> Any:
    """The section of the class that `kind` names, from its own fields; those of the other classes are left unread."""
    if kind not in choices:
        hint = did_you_mean(str(kind), choices)
        raise ConfigError(f"{path}.kind is {kind!r}; it must be one of {', '.join(choices)}.{hint}")
    _check_names(path, value, {f.name: f for cls in choices.values() for f in dataclasses.fields(cls)})
    own = {f.name for f in dataclasses.fields(choices[kind])}
    return build(choices[kind], {name: v for name, v in value.items() if name in own}, path)


def _check_names(path: str, got: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in got:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"{path} has no field {name!r}; it has {', '.join(known)}.{hint}")


def _value(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, path)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        classes = [one for one in arguments if dataclasses.is_dataclass(one)]
        return build(classes[0], value, path) if classes and isinstance(value, Mapping) else value  # type: ignore[arg-type]
    if origin is not None and _is_kind(origin, Mapping):
        return {k: _value(arguments[1], v, f"{path}.{k}") for k, v in value.items()}
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{path} is {value!r}; it must be a tuple of {arguments[0].__name__}.")
        return tuple(_value(arguments[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{path} is {value!r}; it must be one of {', '.join(map(str, arguments))}.")
        return value
    return _scalar(kind, value, path)


def _is_kind(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _scalar(kind: Any, value: Any, path: str) -> Any:
    if value is None:
        raise ConfigError(f"{path} must be given: --{path}=VALUE ({kind.__name__}).")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{path} is {value!r} of type {type(value).__name__}; it must be of type {kind.__name__}.")
    return value


def find_config(name: str) -> str:
    """Path of a config file, with its `:argument` kept: a path, or a name such as `pretrain/tiny`.

    Names are looked up in `configs/` beside the package, then in the installed copy. A file beside the folders there
    is a table of configs: `evaluate/cholec80` is the argument `cholec80` of `evaluate.py`.
    """
    file, colon, argument = name.partition(":")
    if Path(file).is_file():
        return name
    short = re.sub(r"^configs/|\.py$", "", file)
    for folder in config_folders():
        if (folder / f"{short}.py").is_file():
            return f"{folder / short}.py{colon}{argument}"
        table, slash, entry_of_table = short.partition("/")
        if slash and (folder / f"{table}.py").is_file():
            return f"{folder / table}.py:{entry_of_table}{colon}{argument}"
    raise ConfigError(f"config {file!r} is neither a file nor one of {', '.join(config_names())}.")


def config_folders() -> list[Path]:
    """Folders that hold shipped configs."""
    found = [Path(__file__).parents[1] / "configs"]
    with contextlib.suppress(ModuleNotFoundError):  # a source tree that is not installed
        found.append(Path(str(importlib.resources.files("surgmotion_jax.configs"))))
    return [folder for folder in found if folder.is_dir()]


def config_names() -> list[str]:
    """Names of the shipped configs, those in the `CONFIGS` of a table of configs included."""
    folder = config_folders()[0]
    files = [str(file.relative_to(folder).with_suffix("")) for file in folder.glob("*/*.py") if file.stem != "__init__"]
    tables = [file for file in folder.glob("*.py") if file.stem != "__init__"]
    return sorted([*files, *(f"{table.stem}/{name}" for table in tables for name in _run(table).CONFIGS)])


def summary(name: str) -> str:
    """What a config file says of itself: the first line of its docstring, or the comment of its entry in a table.

    The file is read, not run. `name` as for `find_config`.
    """
    path, dot, argument = find_config(name).rpartition(".py")
    source = Path(path + dot).read_text(encoding="utf-8")
    listed = argument.removeprefix(":").partition(":")[0]
    comment = re.search(rf'^    "{re.escape(listed)}": .*#\s*(.*)$', source, re.MULTILINE) if listed else None
    return comment[1] if comment else (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load_config(name: str) -> ConfigDict:
    """Runs a config file's `get_config(argument)`; `name` as for `find_config`.

    Raises ConfigError if the file has no such function; ValueError, from the file, for an argument it does not know.
    """
    # The argument follows the last ".py", so that a drive letter's colon is none.
    path, dot, argument = find_config(name).rpartition(".py")
    module = _run(path + dot)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path + dot} defines no get_config(arg); see configs/pretrain/tiny.py for the form.")
    return module.get_config(argument.removeprefix(":") or None)


def _run(file: str | Path) -> Any:
    """The module of a config file."""
    spec = importlib.util.spec_from_file_location("surgmotion_jax_config", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_flags(argv: Sequence[str]) -> tuple[ConfigDict, list[str]]:
    """Reads `--config=FILE[:ARG]` and `--config.a.b=value` off a command line. Returns (config, other arguments)."""
    file, overrides, rest = split_flags(argv)
    return override(load_config(file), overrides), rest


def split_flags(argv: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The config file that a command line names, the flags that override its fields, and all other arguments.

    Raises ConfigError unless exactly one file is named.
    """
    files = [a.removeprefix("--config=") for a in argv if a.startswith("--config=")]
    if len(files) != 1:
        raise ConfigError(f"give exactly one --config=FILE (shipped: {', '.join(config_names())}); got {len(files)}.")
    overrides = [a for a in argv if a.startswith("--config.")]
    return files[0], overrides, [a for a in argv if not a.startswith(("--config=", "--config."))]


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """The config with `--config.a.b=value` flags applied.

    Raises ConfigError for a field that there is not, a section, and a value of another type than the field's.
    """
    for flag in overrides:
        _check_override(config, flag)
    values = flags.FlagValues()
    line = ["surgmotion", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=line)
        values(line)
        changed = values["config"].value
    except flags.Error as error:
        raise ConfigError(f"{' '.join(overrides)}: {' '.join(str(error).split())}.") from None
    assert isinstance(changed, ConfigDict)
    return changed


def _check_override(config: ConfigDict, flag: str) -> None:
    """Raises ConfigError unless a flag names a field of the config and its value has the field's type."""
    name, equals, text = flag.removeprefix("--config.").partition("=")
    if not equals:
        raise ConfigError(f"{flag} needs a value: {flag}=VALUE.")
    value = _field(config, name, flag)
    kind = type(value)
    if kind in (int, float):
        try:
            kind(text)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{flag}: config.{name} must be {wanted}, such as {value}.") from None


def _field(config: ConfigDict, name: str, given: str) -> object:
    """The value of a field by its dotted name. Raises ConfigError, naming what was `given`, where there is none."""
    node: object = config
    path = "config"
    for part in name.split("."):
        key = part.partition("[")[0]
        if not isinstance(node, ConfigDict):
            raise ConfigError(f"{given}: {path} is a value, {node!r}, and has no field {key!r}.")
        if key not in node:
            hint = did_you_mean(key, list(node))
            raise ConfigError(f"{given}: {path} has no field {key!r}; it has {', '.join(node)}.{hint}")
        node, path = node[key], f"{path}.{key}"
    if isinstance(node, ConfigDict):
        raise ConfigError(f"{given}: {path} is a section; override its fields: {', '.join(node)}.")
    return node


def with_overrides(config: ConfigDict, overrides: Mapping[str, object]) -> ConfigDict:
    """A copy of a config with fields changed, by dotted name.

    Raises ConfigError for a field that there is not, a section, and a value of another type than the field's.
    """
    for name, value in overrides.items():
        _field(config, name, f"{name}={value!r}")
    changed = copy.deepcopy(config)
    try:
        changed.update_from_flattened_dict(overrides)
    except TypeError as error:
        raise ConfigError(f"{', '.join(overrides)}: {' '.join(str(error).split())}.") from None
    return changed
