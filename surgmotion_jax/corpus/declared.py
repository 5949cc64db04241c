"""Sources as a command line names them: paths, or a table that also says what they may be used for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.data.config import SourceConfig

COLUMNS = ("dataset", "path", "specialty", "licence", "terms", "folder_fps")


def declared(arguments: Sequence[str]) -> dict[str, SourceConfig]:
    """Sources by name. An argument is NAME=PATH, a PATH, whose last part is the name, or a table of sources.

    A table is a CSV file with the columns `dataset` and `path` and, as wanted, the others of COLUMNS; its relative
    paths start at its folder. Raises ValueError for a table that is none, or a name that is given twice.
    """
    found: dict[str, SourceConfig] = {}
    for argument in arguments:
        for name, source in _of_argument(argument):
            if name in found:
                raise ValueError(f"{argument}: a second source named {name!r}; write NAME=PATH to tell them apart")
            found[name] = source
    return found


def _of_argument(argument: str) -> Iterator[tuple[str, SourceConfig]]:
    name, equals, path = argument.partition("=")
    if equals:
        yield name, SourceConfig(path)
    elif argument.lower().endswith(".csv") and "dataset" in _rows(argument)[0]:
        yield from _of_table(argument)
    else:
        yield Path(argument).expanduser().resolve().stem, SourceConfig(argument)


def _of_table(table: str) -> Iterator[tuple[str, SourceConfig]]:
    header, rows = _rows(table)
    if "path" not in header or not set(header) <= set(COLUMNS):
        raise ValueError(f"{table}: found the columns {header}, allowed are {', '.join(COLUMNS)}")
    for number, row in enumerate(rows, 2):
        try:
            if not row["dataset"]:
                raise ValueError("the dataset is empty; name it")
            fields = {name: row[name] for name in ("specialty", "licence", "terms") if row.get(name)}
            path = str(Path(table).parent / Path(row["path"]).expanduser())
            yield row["dataset"], SourceConfig(path, folder_fps=float(row.get("folder_fps") or 1), **fields)
        except ValueError as error:
            raise ValueError(f"{table}, line {number}: {error}") from error


def _rows(table: str) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows. Raises ValueError where it cannot be read."""
    try:
        text = storage.read_utf8(Path(table).expanduser())
    except OSError as error:
        raise ValueError(f"{table}: cannot be read as a table: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    return list(reader.fieldnames or ()), list(reader)
