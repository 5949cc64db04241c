"""`surgmotion compare`: equal runs do not differ, a better one does, in every format."""

from __future__ import annotations

import numpy as np
import pytest

from surgmotion_jax.commands import compare
from surgmotion_jax.evaluate.config import ReportConfig
from surgmotion_jax.evaluate.results import scored_json, write_predictions, write_results
from surgmotion_jax.evaluate.tasks.task import score
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask

CLASSES = tuple(f"phase_{letter}" for letter in "abcdefg")
REPORT = ReportConfig(resamples=100)
F1 = "mean over videos; classes present in the ground truth"


def finished(workdir, wrong, cases=12, protocol="official", recipe="ours"):
    """An evaluation in which every `wrong`th moment is predicted wrongly."""
    task, tables = WorkflowTask(CLASSES), []
    for case in range(cases):
        truth = np.random.default_rng(case).integers(0, 7, 40)
        predicted = np.where(np.arange(40) % wrong == case % wrong, (truth + 1) % 7, truth)
        tables.append(task.columns(np.eye(7, dtype=np.float32)[predicted], {"label": truth}))
    ids = [f"video{number}" for number in range(cases)]
    write_predictions(workdir, ids, [np.arange(40.0)] * cases, tables)
    fields = {
        "benchmark": "m2cai16",
        "title": "M2CAI16",
        "protocol": protocol,
        "recipe": recipe,
        "family": "workflow",
        "classes": {"phase": CLASSES},
        "config": {"report": {"resamples": 100, "level": 0.95, "seed": 0}, "probe": {"head": "linear"}},
        "chosen": scored_json(score("m2cai16", task.measures(tables), cases, REPORT)),
    }
    write_results(workdir, fields)
    return str(workdir)


def cell(comparison, metric, convention, column):
    return next(cells for m, c, cells in comparison.rows if (m, c) == (metric, convention))[column]


def test_a_better_run_differs_and_an_equal_one_does_not(tmp_path):
    runs = [finished(tmp_path / name, wrong) for name, wrong in (("base", 4), ("same", 4), ("better", 20))]
    (found,) = compare.compare(compare.read_runs(runs, None))
    assert found.names == ("base", "same", "better")
    same, better = (cell(found, "f1", F1, column) for column in (1, 2))
    assert (same.difference.value, same.mark) == (0, "")
    assert better.difference.value > 0.1
    assert better.difference.interval[0] > 0
    assert better.mark == "*"
    accuracy = cell(found, "accuracy", F1, 2)
    assert accuracy.value == pytest.approx(0.95)
    assert accuracy.difference.value == pytest.approx(0.2)


def test_every_format_has_every_number(tmp_path, capsys):
    runs = [finished(tmp_path / name, wrong) for name, wrong in (("base", 4), ("better", 20))]
    for ending in (".html", ".tex"):
        out = tmp_path / f"table{ending}"
        assert compare.main([*runs, f"--out={out}", "--metrics=f1,accuracy", "--names=V-JEPA 2,ours_&"]) == 0
        text = out.read_text()
        assert "0.95" in text
        assert "V-JEPA 2" in text
    told = capsys.readouterr().out
    assert "M2CAI16, protocol official, 12 cases compared" in told
    assert "* differs from V-JEPA 2, p < 0.05" in told
    assert "edit_score" not in told
    latex = (tmp_path / "table.tex").read_text()
    assert r"ours\_\&" in latex
    assert latex.count(r"\begin{tabular}{lll}") == latex.count(r"\end{tabular}") == 1


def test_benchmarks_and_protocols_have_tables_of_their_own(tmp_path):
    runs = [finished(tmp_path / name, 4, protocol=p) for name, p in (("a", "x"), ("b", "y"), ("c", "x"))]
    found = compare.compare(compare.read_runs(runs, None))
    assert [comparison.names for comparison in found] == [("a", "c"), ("b",)]


def test_runs_of_other_cases_or_recipes_say_so(tmp_path):
    runs = [finished(tmp_path / "a", 4), finished(tmp_path / "b", 4, cases=9, recipe="released")]
    (found,) = compare.compare(compare.read_runs(runs, None))
    assert "9 cases compared" in found.title
    assert "a has 3 cases that others lack; differences leave them out" in found.notes
    assert "b has recipe released, a ours" in found.notes
    single = [finished(tmp_path / "c", 4), finished(tmp_path / "d", 5, cases=1)]
    (found,) = compare.compare(compare.read_runs(single, None))
    assert "fewer than two cases in common: no significance can be computed" in found.notes
    assert cell(found, "f1", F1, 1).mark == ""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["one"], r"1 workdir\(s\) given"),
        (["one", "two", "--out=table.doc"], "--out is 'table.doc'; its ending says the format"),
        (["one", "two", "--sort"], "unknown argument '--sort'"),
        (["one", "two", "--names=a"], "--names has 1 names for 2 workdirs"),
        (["nothing", "there"], r"results.json: no such file; name the workdir of a finished"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments, match):
    with pytest.raises(ValueError, match=match):
        compare.main(arguments)


def test_an_unknown_metric_is_refused(tmp_path):
    runs = [finished(tmp_path / name, 4) for name in ("a", "b")]
    with pytest.raises(ValueError, match="--metrics: no run has 'f2'; there are accuracy, edit_score"):
        compare.main([*runs, "--metrics=f2"])
