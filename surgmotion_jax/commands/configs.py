"""The configs that commands take, of pretraining, evaluation or a study: read from flags, told apart, built."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from surgmotion_jax import config as door
from surgmotion_jax.commands.command_line import Configs
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.sources import sources_at
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.study.config import StudyConfig


class Known(NamedTuple):
    """A kind of config."""

    cls: type[PretrainConfig] | type[EvaluateConfig] | type[StudyConfig]
    noun: str
    command: str  # the first of those that take it


KINDS: Mapping[Configs, Known] = {
    "pretraining": Known(PretrainConfig, "a pretraining config", "pretrain"),
    "evaluation": Known(EvaluateConfig, "an evaluation config", "evaluate"),
    "study": Known(StudyConfig, "the config of a study", "study run"),
}


def kind_of(config: door.ConfigDict) -> Configs:
    """Which kind a config is: the one that more of its fields belong to."""

    def foreign(kind: Configs) -> int:
        return len(set(config) - {field.name for field in dataclasses.fields(KINDS[kind].cls)})

    return min(KINDS, key=foreign)


def kind_asked(flags: Sequence[str]) -> Configs:
    """Which kind of config the flags name."""
    return kind_of(door.load_config(door.split_flags(flags)[0]))


def open_config(flags: Sequence[str], kind: Configs) -> door.ConfigDict:
    """The config of `--config=FILE[:ARG]` with `--config.a.b=VALUE` applied.

    Raises ConfigError for a field or value that cannot be, and for a config of the other kind.
    """
    file, overrides, _ = door.split_flags(flags)
    config = door.load_config(file)
    found = kind_of(config)
    if found != kind:
        raise door.ConfigError(
            f"{file} is {KINDS[found].noun}; use surgmotion {KINDS[found].command}. This command takes "
            f"{KINDS[kind].noun}."
        )
    return door.override(config, overrides)


def pretrain_config(flags: Sequence[str], data: str | None = None, *, stand_in: str | None = None) -> PretrainConfig:
    """A pretraining config from its flags.

    `data` is short for data.sources. Where `stand_in` is given, neither videos nor weights to start from need to be
    named: it is the path that the config then has. Raises ConfigError naming the field that is wrong.
    """
    config = open_config(flags, "pretraining")
    with config.unlocked():
        path = data or (None if config.data.sources else stand_in)
        if path:
            config.data.sources = door.ConfigDict(
                {
                    name: door.entry(SourceConfig, path=source.path, specialty=source.specialty)
                    for name, source in sources_at(path).items()
                }
            )
        if stand_in is not None:
            config.init.checkpoint = config.init.checkpoint or ""
            if config.objective.targets == "frozen":
                config.objective.teacher = config.objective.teacher or stand_in
    if not config.data.sources:
        raise door.ConfigError("the config names no videos; give --data=PATH, or fill data.sources in the config.")
    return door.build(PretrainConfig, config)


def evaluate_config(flags: Sequence[str]) -> EvaluateConfig:
    """An evaluation config from its flags. Raises ConfigError naming the field that is wrong."""
    return door.build(EvaluateConfig, open_config(flags, "evaluation"))


def study_config(flags: Sequence[str]) -> StudyConfig:
    """The config of a study from its flags. Raises ConfigError naming the field that is wrong."""
    return door.build(StudyConfig, open_config(flags, "study"))
