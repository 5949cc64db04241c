"""A stored config read by a later version: fields that came since have their defaults, as they had in effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from surgmotion_jax.pretrain.config import PretrainConfig


def with_later_fields(saved: Mapping[str, Any], section: Any = PretrainConfig) -> dict[str, Any]:
    """`saved`, a config as nested dicts, with the defaults of those fields of the class `section` that it lacks.

    Sections are completed field by field. Named entries, such as data sources and mask sets, are the user's own: a
    mapping that is there is left as it is.
    """
    completed = dict(saved)
    for field in dataclasses.fields(section):
        make = field.default_factory
        if "choices" in field.metadata and "kind" in completed.get(field.name, {}):
            make = field.metadata["choices"]().get(completed[field.name]["kind"], make)
        if dataclasses.is_dataclass(make):
            completed[field.name] = with_later_fields(completed.get(field.name, {}), make)
        elif field.name in completed:
            continue
        elif make is not dataclasses.MISSING:
            completed[field.name] = _plain(make())
        elif field.default is not dataclasses.MISSING:
            completed[field.name] = field.default
    return completed


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: dataclasses.asdict(entry) for name, entry in value.items()}
    return value
