"""Adding a benchmark is one file and one line."""

from __future__ import annotations

import dataclasses

import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import FAMILIES
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.commands import data_check
from tests.benchmarks.simulated import make

ONE_FILE = '''
"""A folder of videos beside one table."""

from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import Benchmark, Contents
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.frames import video_file
from surgmotion_jax.benchmarks.splits import hold_out_cases
from surgmotion_jax.benchmarks.tables import read_table

CLASSES = ("normal", "abnormal")


def read(root: Path, protocol: str) -> Contents:
    def case(row):
        video = video_file(root / "videos" / row.name("file"))
        return clip_case(video.path.stem, video, "kind", row.integer("kind", 0, 1), row.file)

    rows = read_table(root / "splits" / "train.txt", ("file", "kind"), header=False)
    return Contents("mine", protocol, {"kind": CLASSES}, hold_out_cases([case(row) for row in rows]))


BENCHMARK = Benchmark("mine", "My clips", "action", "kind", "videos/, splits/train.txt", ("only",), read)
'''


def test_one_file_and_one_line(tmp_path, monkeypatch, capsys):
    root = make("polypdiag", tmp_path / "set", cases=9, seconds=1.0)
    (tmp_path / "my_benchmark.py").write_text(ONE_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(catalogue.BENCHMARKS, "mine", "my_benchmark")  # the line

    assert "mine" in catalogue.names()
    findings = check(catalogue.get("mine"), root, decode=True)
    assert findings.problems == ()
    assert sum(row.cases for row in findings.splits) == 7
    assert data_check.main(["--benchmark=mine", f"--root={root}"]) == 0
    assert "abnormal" in capsys.readouterr().out


def test_registered_at_run_time(monkeypatch):
    monkeypatch.setattr(catalogue, "_REGISTERED", {})
    mine = dataclasses.replace(catalogue.get("cholec80"), name="mine")
    assert catalogue.register(mine) is catalogue.get("mine")
    with pytest.raises(ValueError, match="'mine' exists already; choose another name"):
        catalogue.register(mine)
    with pytest.raises(ValueError, match="'cholec80' exists already"):
        catalogue.register(catalogue.get("cholec80"))
    with pytest.raises(ValueError, match="family is 'steps', one of workflow, "):
        catalogue.register(dataclasses.replace(mine, name="other", family="steps"))
    with pytest.raises(ValueError, match="protocols is empty"):
        catalogue.register(dataclasses.replace(mine, name="other", protocols=()))


@pytest.mark.parametrize("name", catalogue.BENCHMARKS)
def test_every_row_is_one(name):
    benchmark = catalogue.get(name)
    assert benchmark.name == name
    assert benchmark.family in FAMILIES
    assert benchmark.layout


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match=r"unknown benchmark 'pitvys'; there are cholec80, .*Did you mean 'pitvis'\?"):
        catalogue.get("pitvys")
