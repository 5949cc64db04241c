"""Tables are read strictly, and every complaint names file and line."""

from __future__ import annotations

import pickle

import pytest

from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.tables import Row, read_names, read_table, read_text

COLUMNS = ("Frame", "Phase")


def table(tmp_path, text: str | bytes, **changes) -> list[Row]:
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, COLUMNS, **changes)


def refused(tmp_path, text: str | bytes, match: str, **changes) -> None:
    with pytest.raises(BenchmarkError, match=match):
        table(tmp_path, text, **changes)


def test_rows_know_their_lines(tmp_path):
    rows = table(tmp_path, "\ufeffFrame,Phase\r\n0, a\n\n 1,b\n")
    assert [(row.line, dict(row.cells)) for row in rows] == [
        (2, {"Frame": "0", "Phase": "a"}),
        (4, {"Frame": "1", "Phase": "b"}),
    ]
    assert [row.line for row in table(tmp_path, "Frame Phase\n0   1\n", delimiter=None)] == [2]
    assert [row.line for row in table(tmp_path, "0,1\n", header=False)] == [1]


def test_what_is_not_this_table_is_refused(tmp_path):
    asks = "the layout asks for the columns Frame, Phase and no other"
    refused(tmp_path, "Frame,Phase\n0,1\n1,2,3\n", rf"t.csv:3: found 3 cells instead of 2: .*{asks}")
    refused(tmp_path, "Frame,Phase,Extra\n0,1,2\n", rf"t.csv:1: found the header .*'Extra'.*{asks}")
    refused(tmp_path, "Phase,Frame\n0,1\n", r"t.csv:1: found the header")
    refused(tmp_path, "Frame,Phase\n0\n", r"t.csv:2: found 1 cells instead of 2")
    refused(tmp_path, "Frame,Phase\n", r"t.csv: found no rows")
    refused(tmp_path, "", r"t.csv: found no rows")
    refused(tmp_path, b"Frame,Phase\n0,\xe9\n", r"t.csv:2: found byte 0xe9, which is not UTF-8")
    refused(tmp_path, "Frame,Phase\n0,\0\n", r"t.csv:2: found a zero byte")
    assert table(tmp_path, "Frame,Phase\n", empty=True) == []


def test_missing_files_folders_and_huge_files(tmp_path, monkeypatch):
    with pytest.raises(BenchmarkError, match=r"none.csv: found no such file; .*put it there"):
        read_table(tmp_path / "none.csv", COLUMNS)
    with pytest.raises(BenchmarkError, match="found a folder"):
        read_text(tmp_path)
    monkeypatch.setattr("surgmotion_jax.benchmarks.tables.MAX_BYTES", 3)
    refused(tmp_path, "Frame,Phase\n", "found 12 bytes")


def row(**cells: str) -> Row:
    return Row("t.csv", 7, cells)


def test_cells_are_numbers_in_range_or_refused():
    assert row(a="5").integer("a", 0, 5) == 5
    assert row(a="-1.5").number("a") == -1.5
    assert row(a="y").choice("a", ("x", "y")) == 1
    assert row(a="v 1").name("a") == "v 1"
    for value, read, found in (
        (
            "x",
            lambda r: r.integer("a", 1, 7),
            r"t.csv:7: found a 'x'; the layout asks for an integer from 1 to 7 in column a",
        ),
        ("1.0", lambda r: r.integer("a"), "an integer in column a"),
        ("8", lambda r: r.integer("a", 1, 7), "found a 8; the layout asks for an integer from 1 to 7"),
        ("-1", lambda r: r.integer("a", low=0), "an integer of at least 0"),
        ("nan", lambda r: r.number("a"), "found a nan; the layout asks for a number"),
        ("deep", lambda r: r.number("a"), "found a 'deep'"),
        ("2", lambda r: r.number("a", high=1), "a number of at most 1"),
        ("", lambda r: r.text("a"), "found an empty a"),
        (
            "z",
            lambda r: r.choice("a", ("x", "y")),
            "found a 'z'; the layout asks for one of x, y; correct the spelling",
        ),
        ("../a", lambda r: r.name("a"), "a plain name, without folders"),
    ):
        with pytest.raises(BenchmarkError, match=found):
            read(row(a=value))


def test_names_count_from_zero(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("id,name\n0,cut\n1,tie\n")
    assert read_names(path, "id") == ("cut", "tie")
    with pytest.raises(BenchmarkError, match="found 2 names; the layout asks for 3"):
        read_names(path, "id", 3)
    path.write_text("id,name\n0,cut\n2,tie\n")
    with pytest.raises(BenchmarkError, match=r"classes.csv:3: found id 2; the layout asks for 1, ids in order"):
        read_names(path, "id")


def test_an_error_travels_between_processes():
    error = BenchmarkError("f.csv", "x", "y", "fix it", at=3)
    assert str(error) == "f.csv:3: found x; the layout asks for y; fix it"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.at, again.fix) == (str(error), 3, "fix it")
    assert str(BenchmarkError("f", "x", "y", "z", at="frame 2")).startswith("f, frame 2: found x")
