"""`surgmotion simulate`: files in the layout asked for, a preview, refusals before anything is drawn."""

from __future__ import annotations

import pytest
from PIL import Image

from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.check import check
from surgmotion_jax.commands import simulate
from surgmotion_jax.simulate.truth import load_truth


def test_writes_a_set_that_passes_its_check(tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--layout=autolaparo", f"--out={out}", "--cases=3", "--minutes=0.05", "--size=64x80", "--workers=0"]
    assert simulate.main(arguments) == 0
    shown = capsys.readouterr()
    assert "case 3 of 3: 15" in shown.err
    assert "simulated 3 cases, 9 frames as autolaparo in" in shown.out
    assert check(get("autolaparo"), out, decode=True).problems == ()
    assert len(load_truth(out, "15")["phase_T"]) == 3
    with Image.open(out / "preview.jpg") as preview:
        assert preview.width == 3 * 80
    with pytest.raises(ValueError, match="not an empty folder; name a new one"):
        simulate.main(arguments)


def test_help_names_the_layouts(capsys):
    assert simulate.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--nuisance=X" in shown
    assert "surgicalactions160" in shown


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--out=x"], "--layout is missing"),
        (["--layout=cholec80"], "--out is missing"),
        (["--layout=cholec8", "--out=x"], "unknown layout 'cholec8'.*Did you mean 'cholec80'"),
        (["--layout=cholec80", "--out=x", "--size=big"], "--size is 'big'; write pixels"),
        (["--layout=cholec80", "--out=x", "--size=63"], "must be even"),
        (["--layout=cholec80", "--out=x", "--cases=two"], "--cases is 'two'; it must be a whole number"),
        (["--layout=cholec80", "--out=x", "--case=2"], "unknown argument '--case=2'"),
        (["--layout=cholec80", "--out=x", "--cases=2"], "--cases is 2; this data set has 80 cases in 3 splits"),
        (["--layout=cholec80", "--out=x", "--nuisance=3"], "nuisance"),
        (["--layout=cholec80", "--out=x", "--seed=-1"], "--seed is -1"),
    ],
)
def test_refuses(tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=match):
        simulate.main(arguments)
    assert not (tmp_path / "x").exists()
