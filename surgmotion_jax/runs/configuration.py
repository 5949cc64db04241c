"""From what a caller names (a config file, a ConfigDict, a dataclass, changes to it) to the config that a run reads."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from surgmotion_jax import config as door
from surgmotion_jax.config import ConfigDict
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.sources import sources_at
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.pretrain.config import PretrainConfig

Config = TypeVar("Config", PretrainConfig, EvaluateConfig)
Named: TypeAlias = str | ConfigDict


def read_config(cls: type[Config], config: Config | Named, overrides: Mapping[str, object]) -> Config:
    """The config of a run.

    Args:
      cls: the class of the config.
      config: the config itself, a ConfigDict, a file, or the name of a shipped file such as `pretrain/tiny`.
      overrides: values by dotted name, e.g. `{"optim.lr": 1e-3}`.

    Raises ConfigError naming the file or field that is wrong.
    """
    if isinstance(config, cls) and not overrides:
        return config
    return door.build(cls, door.with_overrides(as_config_dict(config), overrides))


def as_config_dict(config: PretrainConfig | EvaluateConfig | Named) -> ConfigDict:
    """The same config as a ConfigDict."""
    if isinstance(config, str):
        return door.load_config(config)
    return config if isinstance(config, ConfigDict) else ConfigDict(dataclasses.asdict(config))


def with_data(config: ConfigDict, path: str) -> ConfigDict:
    """A copy of a config that reads its videos from one file, folder, glob, CSV, or `tfds:` or `records:` location."""
    changed = door.with_overrides(config, {})
    with changed.unlocked():
        changed.data.sources = ConfigDict(
            {
                name: door.entry(SourceConfig, path=source.path, specialty=source.specialty)
                for name, source in sources_at(path).items()
            }
        )
    return changed


def override_of(text: str) -> tuple[str, object]:
    """'data.size=64' as field and value. Raises ValueError for anything else."""
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise ValueError(f"found {text!r}; write a field of the config and its value, as data.size=64")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):  # a name
        return field, value
