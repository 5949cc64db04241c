"""`surgmotion evaluate` from outside: flags, what it prints, the page it writes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from surgmotion_jax.commands import evaluate
from surgmotion_jax.commands.configs import evaluate_config
from surgmotion_jax.evaluate.run import evaluate as run_evaluation
from surgmotion_jax.evaluate.source import Source
from surgmotion_jax.pages.evaluation import write_page
from surgmotion_jax.pages.evaluation_drawings import precision_recall
from tests.benchmarks.simulated import make
from tests.evaluate.encoders import small_encoder
from tests.evaluate.evaluations import SMALL, changed, cholec80

FLAGS = (
    "--config=evaluate/cholec80:small",
    "--checkpoint=random:vit_nano",
    "--head=linear",
    "--fraction=0.5",
    "--config.data.size=32",
    "--config.data.frames=4",
    "--config.report.resamples=50",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return cholec80(tmp_path_factory.mktemp("set") / "set")


def test_a_benchmark_is_scored_and_said(root, tmp_path, capsys):
    assert evaluate.main([*FLAGS, f"--root={root}", f"--workdir={tmp_path}"]) == 0
    told = capsys.readouterr()
    assert "cholec80 (first protocol), recipe ours: 4 frames at 1.0 fps, 32 px; head linear" in told.out
    assert "Cholec80, protocol official: head lr=" in told.out
    assert re.search(r"accuracy +0\.\d{4}  0\.\d{4} \.\. [01]\.\d{4} +0\.\d{4}  mean over videos", told.out)
    assert "8 training rows" in told.err  # one of two videos
    fields = json.loads((tmp_path / "results.json").read_text())
    assert len(fields["cases"]["train"]) == 1
    assert json.loads((tmp_path / "run.json").read_text())["seconds"] > 0
    page = (tmp_path / "report.html").read_text()
    for title in ("Results", "Phases", "Confusion", "Heads", "Cases", "Config"):
        assert f"<h2>{title}</h2>" in page
    assert "evaluation report" in page
    assert "pretraining" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    before = (tmp_path / "results.json").read_bytes()
    assert evaluate.main([*FLAGS, f"--root={root}", f"--workdir={tmp_path}"]) == 0
    assert "this evaluation is finished" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_bytes() == before
    assert (tmp_path / "report.html").read_text() == page


@pytest.mark.parametrize(
    ("name", "head", "titles"),
    [
        ("cholect50", "linear", ("Precision and recall",)),
        ("jigsaws", "linear", ("Scores",)),
        pytest.param("surgicalactions160", "linear", ("Confusion",), marks=pytest.mark.slow),
        pytest.param("c3vd", "dense", ("Pictures",), marks=pytest.mark.slow),
        pytest.param("polyp_segmentation", "dense", ("Pictures",), marks=pytest.mark.slow),
    ],
)
def test_each_family_has_a_page_of_its_own(tmp_path, name, head, titles):
    cases = {"surgicalactions160": 64, "jigsaws": 12, "polyp_segmentation": 12}.get(name, 4)
    root = make(name, tmp_path / "set", cases, 3.0, fps=2)
    frames = 1 if head == "dense" else 2
    config = changed(SMALL, data={"benchmark": name, "frames": frames}, probe={"head": head, "layers": (0, 1)})
    run_evaluation(config, Source(small_encoder()), str(root), tmp_path / "run")
    write_page(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(f"<h2>{title}</h2>" in page for title in titles)
    assert "<svg" in page or "data:image/jpeg" in page or name == "surgicalactions160"


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--root=x", "--workdir=w"], "give either --checkpoint=PATH or --features=DIR"),
        (["--root=x", "--workdir=w", "--checkpoint=a", "--features=b"], "give either --checkpoint=PATH or --features"),
        (["--workdir=w", "--checkpoint=a"], "--root is missing"),
        (["--root=x", "--checkpoint=a"], "--workdir is missing"),
        (["--root=x", "--workdir=w", "--checkpoint=a", "--epochs=2"], "unknown argument '--epochs=2'"),
        (["--root=x", "--workdir=w", "--checkpoint=a", "--recipe=mine"], "data.recipe is 'mine'"),
        (["--root=x", "--workdir=w", "--checkpoint=a", "--head=mlp"], "probe.head is 'mlp'"),
        (["--root=x", "--workdir=w", "--checkpoint=a", "--cache=pooled"], "cache.kind is pooled, but a head of kind"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, match):
    with pytest.raises(ValueError, match=match):
        evaluate_config(evaluate.LINE.parse(["--config=evaluate/cholec80", *flags]).config)


def test_a_root_of_another_benchmark_and_an_unknown_protocol_are_refused(root, tmp_path):
    common = ["--checkpoint=random:vit_nano", f"--root={root}", f"--workdir={tmp_path}"]
    with pytest.raises(ValueError, match="the layout asks for"):
        evaluate.main(["--config=evaluate/autolaparo:small", *common])
    with pytest.raises(ValueError, match="cholec80 has no protocol 'fold1'; there are official"):
        evaluate.main(["--config=evaluate/cholec80:small", "--protocol=fold1", *common])


def test_short_flags_are_fields_of_the_config():
    flags = ["--root=x", "--workdir=w", "--checkpoint=a", "--head=knn", "--cache=pooled", "--fraction=0.25"]
    config = evaluate_config(evaluate.LINE.parse(["--config=evaluate/cholec80", *flags, "--recipe=released"]).config)
    assert (config.probe.head, config.cache.kind, config.data.fraction) == ("knn", "pooled", 0.25)
    assert config.data.recipe == "released"


def test_help_says_every_flag(capsys):
    assert evaluate.main(["--help"]) == 0
    told = capsys.readouterr().out
    for flag in (
        "head",
        "fraction",
        "protocol",
        "recipe",
        "cache",
        "checkpoint",
        "features",
        "root",
        "workdir",
        "probe",
    ):
        assert f"--{flag}=" in told
    assert "evaluate/cholec80" in told


def test_a_curve_has_a_point_a_threshold():
    recall_N, precision_N = precision_recall(np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    np.testing.assert_allclose(recall_N, [0, 0.5, 1, 1])
    np.testing.assert_allclose(precision_N, [1, 1, 2 / 3, 0.5])
