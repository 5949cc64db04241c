"""The columns of a comparison as a person names them: a workdir each, or the workdirs of seeds joined by commas."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence

from surgmotion_jax import storage
from surgmotion_jax.evaluate.compare.seeds import Column, read_column, shared_name


def read_columns(arguments: Sequence[str], names: Sequence[str] = ()) -> list[Column]:
    """A column an argument.

    Raises ValueError for a workdir without an evaluation, another number of names, and seeds that do not belong
    together.
    """
    groups = [seeds_of(argument) for argument in arguments]
    given = list(names) or [shared_name(list(map(_last, group))) for group in groups]
    if len(given) != len(groups):
        raise ValueError(f"--names has {len(given)} names for {len(groups)} columns; give one each")
    columns = [read_column(name, group) for name, group in zip(given, groups, strict=True)]
    return columns if names else told_apart(columns)


def seeds_of(argument: str) -> list[str]:
    """The workdirs that an argument joins by commas; one that is there as it stands is a workdir itself."""
    if "," not in argument or storage.as_path(argument).exists():
        return [argument]
    workdirs = argument.split(",")
    if not all(workdirs):
        raise ValueError(f"{argument!r} joins workdirs by commas, and one of them is empty; remove the comma too many")
    return workdirs


def told_apart(columns: Sequence[Column]) -> list[Column]:
    """The columns, those that one table has under the same name with that of their folder before it."""

    def in_folder(column: Column) -> Column:
        folder = shared_name([_last(os.path.dirname(os.path.abspath(run.workdir))) for run in column.runs])
        return dataclasses.replace(column, name=os.path.join(folder, column.name))

    count = Counter((column.task, column.name) for column in columns)
    return [column if count[column.task, column.name] == 1 else in_folder(column) for column in columns]


def _last(path: str) -> str:
    return os.path.basename(os.path.abspath(path))
