"""Text annotations read strictly: each cell keeps its file and line, so that an error can name them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.errors import BenchmarkError

MAX_BYTES = 512 * 2**20
"""No annotation of the supported data sets is near this; a larger file is not one."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    file: Path
    line: int  # 1-based, as an editor counts
    cells: Mapping[str, str]  # by column, blanks at the ends removed

    def text(self, column: str) -> str:
        """The cell. Raises BenchmarkError where it is empty."""
        if not self.cells[column]:
            raise self.error(f"an empty {column}", f"a value in column {column}", "fill it in")
        return self.cells[column]

    def integer(self, column: str, low: int | None = None, high: int | None = None) -> int:
        """The cell as an integer from `low` to `high`. Raises BenchmarkError for anything else."""
        asks = f"an integer{_between(low, high)} in column {column}"
        try:
            value = int(self.text(column))
        except ValueError:
            raise self.error(f"{column} {self.cells[column]!r}", asks, "correct the value") from None
        if (low is not None and value < low) or (high is not None and value > high):
            raise self.error(f"{column} {value}", asks, "correct the value")
        return value

    def number(self, column: str, low: float | None = None, high: float | None = None) -> float:
        """The cell as a finite number from `low` to `high`. Raises BenchmarkError for anything else."""
        asks = f"a number{_between(low, high)} in column {column}"
        try:
            value = float(self.text(column))
        except ValueError:
            raise self.error(f"{column} {self.cells[column]!r}", asks, "correct the value") from None
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            raise self.error(f"{column} {self.cells[column]}", asks, "correct the value")
        return value

    def choice(self, column: str, allowed: Sequence[str]) -> int:
        """Place of the cell's text in `allowed`. Raises BenchmarkError for a text that is not among them."""
        value = self.text(column)
        if value not in allowed:
            raise self.error(f"{column} {value!r}", f"one of {', '.join(allowed)}", "correct the spelling")
        return list(allowed).index(value)

    def name(self, column: str) -> str:
        """The cell as a name of a file or folder. Raises BenchmarkError for one that leads elsewhere."""
        value = self.text(column)
        if Path(value).name != value:
            raise self.error(f"{column} {value!r}", "a plain name, without folders", "correct the name")
        return value

    def error(self, found: str, asks: str, fix: str) -> BenchmarkError:
        """An error that points at this line."""
        return BenchmarkError(self.file, found, asks, fix, at=self.line)


def _between(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" of at least {low}"
    return f" from {low} to {high}" if low is not None else f" of at most {high}"


def read_text(path: Path) -> str:
    """A text file. Raises BenchmarkError where it is missing, not UTF-8 (a byte order mark is fine) or huge."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BenchmarkError(
                path, f"{size} bytes", f"a text file of at most {MAX_BYTES}", "check what this file is"
            )
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise BenchmarkError(path, "no such file", "this annotation", "put it there") from None
    except IsADirectoryError:
        raise BenchmarkError(path, "a folder", "a text file of this name", "put the file there") from None
    except UnicodeDecodeError as error:
        line, found, encoding = storage.not_utf8(error)
        remedy = f"save it as UTF-8, or convert it: iconv -f {encoding} -t UTF-8"
        raise BenchmarkError(path, found, "UTF-8 text", remedy, at=line) from None


def read_header(path: Path, delimiter: str = ",") -> list[str]:
    """The cells of the first line that is not blank. Raises BenchmarkError for a file without one."""
    for _, cells in _lines(path, delimiter):
        return cells
    raise BenchmarkError(path, "no line", "a header", "restore the file from where it came")


def read_table(
    path: Path, columns: Sequence[str], delimiter: str | None = ",", header: bool = True, empty: bool = False
) -> list[Row]:
    """All rows of a txt, csv or tsv file; blank lines are skipped.

    Args:
        path: the file.
        columns: names and order of the columns: no other, none missing.
        delimiter: between cells; None for any run of blanks.
        header: whether the first line names the columns.
        empty: whether a table without rows is fine.

    Raises:
        BenchmarkError: naming file and line: missing file, encoding, wrong header, too few or too many cells.
    """
    rows = list(iterate_table(path, columns, delimiter, header))
    if not rows and not empty:
        raise BenchmarkError(path, "no rows", _asks(columns), "restore the file from where it came")
    return rows


def iterate_table(
    path: Path, columns: Sequence[str], delimiter: str | None = ",", header: bool = True
) -> Iterator[Row]:
    """The rows of `read_table`, one after the other: for files of a row a frame, where keeping all costs most."""
    for line, cells in _lines(path, delimiter):
        if header:
            if cells != list(columns):
                raise BenchmarkError(path, f"the header {cells}", _asks(columns), "make the header so", at=line)
            header = False
            continue
        if len(cells) != len(columns):
            found = f"{len(cells)} cells instead of {len(columns)}: {cells[: len(columns) + 1]}"
            raise BenchmarkError(path, found, _asks(columns), "remove or add cells on this line", at=line)
        yield Row(path, line, dict(zip(columns, cells, strict=True)))


def _asks(columns: Sequence[str]) -> str:
    return f"the columns {', '.join(columns)} and no other"


def read_names(path: Path, column: str, count: int | None = None) -> tuple[str, ...]:
    """Names from a table of ids and names that counts from 0. Raises BenchmarkError for a gap, or another count."""
    rows = read_table(path, (column, "name"))
    for place, row in enumerate(rows):
        if row.integer(column) != place:
            raise row.error(
                f"{column} {row.text(column)}", f"{place}, ids in order from 0", "sort or complete the rows"
            )
    if count is not None and len(rows) != count:
        raise BenchmarkError(path, f"{len(rows)} names", f"{count}", "complete the table")
    return tuple(row.text("name") for row in rows)


def _lines(path: Path, delimiter: str | None) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not blank."""
    text = read_text(path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise BenchmarkError(path, "a zero byte", "plain text", "restore the file", at=line)
    if delimiter is None:
        yield from ((number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise BenchmarkError(path, str(error), "delimited text", "correct the line", at=reader.line_num) from None
