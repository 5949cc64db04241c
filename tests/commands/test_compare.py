"""`surgmotion compare`: equal runs do not differ, a better one does, in every format."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest

from surgmotion_jax.commands.compare import main
from surgmotion_jax.evaluate.compare.columns import read_columns, seeds_of
from surgmotion_jax.evaluate.compare.comparison import compare
from surgmotion_jax.evaluate.config import ReportConfig
from surgmotion_jax.evaluate.results import scored_json, write_predictions, write_results
from surgmotion_jax.evaluate.tasks.task import score
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask

CLASSES = tuple(f"phase_{letter}" for letter in "abcdefg")
REPORT = ReportConfig(resamples=100)
F1 = "mean over videos; classes present in the ground truth"


def finished(workdir, wrong, cases=12, protocol="official", recipe="ours", seed=0, benchmark="m2cai16"):
    """An evaluation in which every `wrong`th moment, counted from the seed, is predicted wrongly."""
    task, tables = WorkflowTask(CLASSES), []
    for case in range(cases):
        truth = np.random.default_rng(case).integers(0, 7, 40)
        predicted = np.where((np.arange(40) + seed) % wrong == case % wrong, (truth + 1) % 7, truth)
        tables.append(task.columns(np.eye(7, dtype=np.float32)[predicted], {"label": truth}))
    ids = [f"video{number}" for number in range(cases)]
    digest = write_predictions(workdir, ids, [np.arange(40.0)] * cases, tables)
    fields = {
        "benchmark": benchmark,
        "title": benchmark.upper(),
        "protocol": protocol,
        "recipe": recipe,
        "family": "workflow",
        "classes": {"phase": CLASSES},
        "predictions_sha256": digest,
        "encoder": {"step": 100, "dtype": "float32"},
        "config": {
            "report": {"resamples": 100, "level": 0.95, "method": "bca", "seed": 0},
            "sweep": {"seed": seed},
            "probe": {"head": "linear"},
        },
        "chosen": scored_json(score(benchmark, task.measures(tables), cases, REPORT)),
    }
    write_results(workdir, fields)
    return str(workdir)


def cell(comparison, metric, convention, column):
    return next(cells for m, c, cells in comparison.rows if (m, c) == (metric, convention))[column]


def test_a_better_run_differs_and_an_equal_one_does_not(tmp_path):
    runs = [finished(tmp_path / name, wrong) for name, wrong in (("base", 4), ("same", 4), ("better", 20))]
    (found,) = compare(read_columns(runs))
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
        assert main([*runs, f"--out={out}", "--metrics=f1,accuracy", "--names=V-JEPA 2,ours_&"]) == 0
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
    found = compare(read_columns(runs))
    assert [comparison.names for comparison in found] == [("a", "c"), ("b",)]


def test_runs_of_other_cases_or_recipes_say_so(tmp_path):
    runs = [finished(tmp_path / "a", 4), finished(tmp_path / "b", 4, cases=9, recipe="released")]
    (found,) = compare(read_columns(runs))
    assert "9 cases compared" in found.title
    assert "a has 3 cases that others lack; differences leave them out" in found.notes
    assert "b has recipe released, a ours" in found.notes
    single = [finished(tmp_path / "c", 4), finished(tmp_path / "d", 5, cases=1)]
    (found,) = compare(read_columns(single))
    assert "fewer than two cases in common: no significance can be computed" in found.notes
    assert cell(found, "f1", F1, 1).mark == ""


def test_columns_of_another_ground_truth_are_refused(tmp_path):
    runs = [finished(tmp_path / "a", 4), finished(tmp_path / "b", 4)]
    path = tmp_path / "b" / "predictions.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[2] = str((int(float(cells[2])) + 1) % 7)  # case, time, truth
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"(?s)/a and .*/b are .*  truth of test case 'video0', at 1 of 40 moments\n"):
        main(runs)


def test_seeds_of_another_architecture_are_refused(tmp_path):
    runs = [finished(tmp_path / name, 4) for name in ("a", "b", "c")]
    for workdir, depth in zip(runs, (12, 24), strict=False):
        config = {"architecture": {"encoder": {"depth": depth}}}
        (tmp_path / workdir / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="(?s)joined as seeds .*  architecture.encoder.depth: 12 and 24\nJoin"):
        read_columns([f"{runs[0]},{runs[1]}", runs[2]])
    assert [len(column.runs) for column in read_columns([f"{runs[0]},{runs[2]}", runs[1]])] == [2, 1]


def test_a_number_that_one_column_lacks_is_a_dash_in_every_format(tmp_path, capsys):
    runs = [finished(tmp_path / name, wrong) for name, wrong in (("base", 4), ("ours", 20))]
    path = tmp_path / "base" / "results.json"
    fields = json.loads(path.read_text())
    rows = fields["chosen"]["results"]
    (gone,) = [row for row in rows if row["metric"] == "edit_score"]
    rows.remove(gone)
    entry = {"metric": gone["metric"], "convention": gone["convention"], "why": "no case defines it"}
    fields["chosen"]["undefined"].append(entry)
    path.write_text(json.dumps(fields))
    told = {}
    for ending in ("html", "tex"):
        out = tmp_path / f"table.{ending}"
        assert main([*runs, f"--out={out}", "--metrics=edit_score"]) == 0
        told[ending] = out.read_text()
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("edit_score"))
    assert line.split()[2] == "-"
    assert "<td>edit_score</td><td>-</td>" in told["html"]
    assert r"edit\_score & -- & " in told["tex"]
    for written in (text, *told.values()):
        assert "base: edit_score (mean over videos) is undefined: no case defines it" in written


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["one"], r"1 workdir\(s\) given; name two or more finished evaluations\.$"),
        (["a0,a1"], r"1 workdir\(s\) given; name two .* evaluations; commas join the seeds of one column"),
        (["a0,,a1", "b"], "'a0,,a1' joins workdirs by commas, and one of them is empty"),
        (["a0,a1,", "b"], "'a0,a1,' joins workdirs by commas, and one of them is empty"),
        (["a0,a1,./a0", "b"], r"./a0: given twice in the column a0,a1,./a0"),
        (["one", "two", "--out=table.doc"], "--out is 'table.doc'; its ending says the format"),
        (["one", "two", "--sort"], "unknown argument '--sort'"),
        (["one", "two", "--names=a"], "--names has 1 names for 2 columns; give one each"),
        (["nothing", "there"], r"results.json: no such file; name the workdir of a finished"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments, match):
    with pytest.raises(ValueError, match=match):
        main(arguments)


def test_an_unknown_metric_is_refused(tmp_path):
    runs = [finished(tmp_path / name, 4) for name in ("a", "b")]
    with pytest.raises(ValueError, match="--metrics: no run has 'f2'; there are accuracy, edit_score"):
        main([*runs, "--metrics=f2"])


def seeds(folder, name, wrong, count, **kind):
    """Workdirs of `count` seeds, joined by commas."""
    return ",".join(finished(folder / f"{name}-{seed}", wrong, seed=seed, **kind) for seed in range(count))


def test_seeds_in_every_format(tmp_path, capsys):
    columns = [seeds(tmp_path, "base", 4, 2), seeds(tmp_path, "ours", 20, 3), finished(tmp_path / "one", 20)]
    told = {}
    for ending in ("html", "tex"):
        out = tmp_path / f"table.{ending}"
        assert main([*columns, f"--out={out}", "--metrics=accuracy"]) == 0
        told[ending] = out.read_text()
    told["txt"] = capsys.readouterr().out
    line = next(line for line in told["txt"].splitlines() if line.startswith("accuracy (1)"))
    assert line.count("(sd ") == 2
    header = next(line for line in told["txt"].splitlines() if line.startswith("metric"))
    assert header.split() == ["metric", "base", "ours", "one"]
    for text in told.values():
        assert "0.95 (sd 0) [" in text
        assert "mean of 3 seeds (" in text
    assert "ours minus base" in told["html"]


def test_a_summary_of_several_benchmarks_in_every_format(tmp_path, capsys):
    columns = [
        seeds(tmp_path / folder, name, wrong, 2, benchmark=name, cases=8)
        for name in ("m2cai16", "autolaparo")
        for folder, wrong in (("random", 4), ("trained", 20))
    ]
    told = {}
    for ending in ("html", "tex"):
        out = tmp_path / f"table.{ending}"
        assert main([*columns, f"--out={out}", "--metrics=edit_score", "--names=R,T,R,T"]) == 0
        told[ending] = html.unescape(out.read_text()) if ending == "html" else out.read_text()
        told["txt"] = capsys.readouterr().out
    for text in told.values():
        assert "All benchmarks" in text
        assert "T minus R" in text
        assert text.count("f1, higher is better") == 2
        assert text.count("], p = 0.0198, Holm 0.0396*") == 2
        assert "* p < 0.05 after Holm's correction (tests in this summary: 2)" in text
    assert told["tex"].count(r"\end{tabular}") == 3
    assert r"\begin{tabular}{lllll}" in told["tex"]
    header = next(line for line in told["txt"].splitlines() if line.startswith("benchmark"))
    assert header.split(maxsplit=4)[2:4] == ["R", "T"]
    main([*columns[:2], "--metrics=f1"])
    assert "All benchmarks" not in capsys.readouterr().out


def test_seeds_of_different_evaluations_are_refused(tmp_path):
    a, b = finished(tmp_path / "a", 4), finished(tmp_path / "b", 4, protocol="other")
    with pytest.raises(ValueError, match="a and .*b are joined as seeds of one column, but differ in more than seeds"):
        main([f"{a},{b}", a])


def test_a_path_with_a_comma_is_one_workdir(tmp_path):
    whole = finished(tmp_path / "lr=1,wd=2", 4)
    assert seeds_of(whole) == [whole]
    assert seeds_of("lr=1,wd=2") == ["lr=1", "wd=2"]
    (found,) = compare(read_columns([whole, finished(tmp_path / "b", 4)]))
    assert found.names == ("lr=1,wd=2", "b")


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (["base-0,base-1", "ours/"], ["base", "ours"]),
        (["r/cholec80-0,r/cholec80-1", "p/cholec80-0"], ["cholec80", "cholec80-0"]),
        (["r/cholec80-0,r/cholec80-1", "p/cholec80-0,p/cholec80-1"], ["r/cholec80", "p/cholec80"]),
        (["r-0/avos,r-1/avos", "p-0/avos,p-1/avos", "x"], ["r/avos", "p/avos", "x"]),
    ],
)
def test_default_names(tmp_path, monkeypatch, groups, names):
    monkeypatch.chdir(tmp_path)
    for number, workdir in enumerate(",".join(groups).split(",")):
        finished(tmp_path / workdir, 4, cases=2, seed=number)
    assert [column.name for column in read_columns(groups)] == names


def test_columns_of_two_tables_may_have_one_name(tmp_path):
    names = ("m2cai16", "autolaparo")
    runs = [finished(tmp_path / name / method, 4, benchmark=name, cases=2) for name in names for method in "ab"]
    assert [column.name for column in read_columns(runs)] == ["a", "b", "a", "b"]
