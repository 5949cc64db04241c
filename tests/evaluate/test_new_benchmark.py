"""A benchmark of one's own, outside the package: a file that reads it, a line of the catalogue, a config."""

from __future__ import annotations

from surgmotion_jax import config as door
from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.commands import data_check
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.run import evaluate
from surgmotion_jax.evaluate.source import Source
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import small_encoder

READER = '''
"""A folder of videos beside two tables."""

from surgmotion_jax.benchmarks.benchmark import Benchmark, Contents
from surgmotion_jax.benchmarks.clips import clip_case
from surgmotion_jax.benchmarks.frames import video_file
from surgmotion_jax.benchmarks.splits import hold_out_cases
from surgmotion_jax.benchmarks.tables import read_table


def read(root, protocol):
    def cases(table):
        for row in read_table(root / "splits" / table, ("file", "kind"), header=False):
            video = video_file(root / "videos" / row.name("file"))
            yield clip_case(video.path.stem, video, "kind", row.integer("kind", 0, 1), row.file)

    learnt = hold_out_cases(list(cases("train.txt")))
    return Contents("mine", protocol, {"kind": ("normal", "abnormal")}, {**learnt, "test": tuple(cases("val.txt"))})


BENCHMARK = Benchmark("mine", "My clips", "action", "kind", "videos/, splits/", ("only",), read)
'''
CONFIG = """
from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig

def get_config(arg=None):
    c = defaults(EvaluateConfig)
    c.data.benchmark, c.data.frames, c.data.size, c.probe.head = "mine", 2, 16, "linear"
    c.sweep.learning_rates, c.sweep.weight_decays, c.sweep.strategy = (1e-2, 1e-3), (0.1,), "vmap"
    return c.lock()
"""


def test_a_reader_a_line_and_a_config_are_all_that_a_benchmark_needs(tmp_path, monkeypatch, capsys):
    assert len((READER + CONFIG).splitlines()) < 40
    root = make("polypdiag", tmp_path / "set", cases=12, seconds=1.0)
    (tmp_path / "my_benchmark.py").write_text(READER)
    (tmp_path / "my_config.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(catalogue.BENCHMARKS, "mine", "my_benchmark")  # the line

    assert check(catalogue.get("mine"), root, decode=True).problems == ()
    assert data_check.main(["--benchmark=mine", f"--root={root}"]) == 0
    assert "abnormal" in capsys.readouterr().out
    config, _ = door.parse_flags([f"--config={tmp_path / 'my_config.py'}", "--config.sweep.epochs=1"])
    said: list[str] = []
    source = Source(small_encoder())
    found = evaluate(door.build(EvaluateConfig, config), source, str(root), tmp_path / "run", say=said.append)
    assert any("2 steps of 4" in line for line in said)
    assert (found["benchmark"], len(found["candidates"])) == ("mine", 2)
    assert {row["metric"] for row in found["chosen"]["results"]} >= {"accuracy", "f1"}
