"""The examples run as they are printed."""

from __future__ import annotations

import runpy
import sys

import pytest

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.pretrain.losses.table import TERMS
from tests.commands.conftest import SMALL, cache, videos, write_video  # noqa: F401 (fixtures)
from tests.docs.pages import ROOT

EXAMPLES = ROOT / "docs/examples"


@pytest.fixture
def run(monkeypatch):
    """Runs an example as a program. What it adds to the tables of the package is gone afterwards."""
    monkeypatch.setattr(catalogue, "BENCHMARKS", dict(catalogue.BENCHMARKS))
    monkeypatch.setitem(TERMS, "mean", None)
    del TERMS["mean"]

    def program(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return program


def test_every_example_is_shown_on_a_page_and_run_here():
    programs = {path.stem for path in EXAMPLES.glob("*.py")}
    assert programs == {path.stem for path in EXAMPLES.glob("*.md")} == {"features", "loss_term", "own_labels"}


def test_features_of_a_video(run, videos, capsys):  # noqa: F811
    run("features.py", videos / "case0.mp4")
    assert "192 numbers" in capsys.readouterr().out


@pytest.mark.slow
def test_a_new_term_in_an_ablation(run, videos, cache, tmp_path, capsys):  # noqa: F811
    small = [flag for flag in SMALL if not flag.startswith(("--config=", "--config.steps"))]
    flags = [*small, "--config.steps=2", f"--config.run.compilation_cache={cache}"]
    with pytest.raises(SystemExit) as ended:
        run("loss_term.py", videos, tmp_path / "ablation", *flags)
    assert ended.value.code == 0
    assert "distance of means" in capsys.readouterr().out


def test_a_probe_on_own_labels(run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "mine"
    (folder / "videos").mkdir(parents=True)
    rows = ["video,patient,label"]
    for number in range(10):
        write_video(folder / "videos" / f"v{number}.mp4", number, frames=12, size=32)
        rows.append(f"v{number}.mp4,p{number // 2},{'bleeding' if number % 2 else 'dry'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    run("own_labels.py", folder, "random:vit_nano", tmp_path / "run")
    assert "accuracy" in capsys.readouterr().out
