"""Columns of several seeds: values, deviations, draws and differences as computed by hand; what is no seed is refused,
and so is what was not scored on the same moments and labels.

Segmentation is used, whose Dice of a case is whatever its table says, so that every number can be set.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import LISTED
from surgmotion_jax.evaluate.compare.comparison import NOTED, compare, holm, summarise
from surgmotion_jax.evaluate.compare.seeds import Column, Run, SeedMean, shared_name
from surgmotion_jax.evaluate.config import ReportConfig
from surgmotion_jax.evaluate.metrics.bootstrap import interval, paired_difference
from surgmotion_jax.evaluate.results import scored_json
from surgmotion_jax.evaluate.tasks.segmentation import MEASURES, SegmentationTask
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.task import score

REPORT = ReportConfig(resamples=200)
DICE = ("dice", MEASURES["dice"])
A0, A1 = (0.5, 0.6, 0.4, 0.7, 0.5, 0.6), (0.7, 0.4, 0.6, 0.5, 0.7, 0.4)
B0, B1, B2 = (0.8, 0.7, 0.6, 0.9, 0.7, 0.8), (0.6, 0.9, 0.8, 0.7, 0.9, 0.5), (0.7, 0.8, 0.7, 0.8, 0.5, 0.9)


def run(workdir, dice_V):
    """An evaluation of one image a case, with these values of Dice."""
    columns = [{name: np.array([dice]) for name in MEASURES} | {"time": np.zeros(1)} for dice in dice_V]
    tables = {f"case{number}": table for number, table in enumerate(columns)}
    return Run(workdir, fields("polyp_segmentation", SegmentationTask(), tables), tables)


def trials(workdir, predicted_V):
    """An evaluation of skill, of a trial a case, whose true scores are 0, 1, 2, ..."""
    columns = [{"truth": [n], "predicted": [p], "task": [0], "time": [0]} for n, p in enumerate(predicted_V)]
    tables = {f"case{n}": {k: np.array(v, np.float64) for k, v in c.items()} for n, c in enumerate(columns)}
    return Run(workdir, fields("jigsaws", SkillTask(("suturing",)), tables, {"task": ["suturing"]}), tables)


def fields(benchmark, task, tables, classes=()):
    report = {"resamples": REPORT.resamples, "level": 0.95, "method": "bca", "seed": 0}
    config = {"data": {"seed": 0, "protocol": ""}, "probe": {"head": "dense"}, "sweep": {"seed": 0}, "report": report}
    scored = score(benchmark, task.measures(list(tables.values())), len(tables), REPORT)
    return {
        "benchmark": benchmark,
        "title": benchmark.title(),
        "protocol": "official",
        "recipe": "ours",
        "classes": dict(classes),
        "encoder": {"step": 100, "dtype": "float32"},
        "config": config,
        "chosen": scored_json(scored),
        "predictions_sha256": str(list(tables.values())),
    }


def cells(comparison, key):
    return next(row[2] for row in comparison.rows if row[:2] == key)


def seeds(prefix, *values):
    return Column(prefix, tuple(run(f"{prefix}{number}", dice_V) for number, dice_V in enumerate(values)))


def note(notes, start):
    (found,) = [text for text in notes if text.startswith(start)]
    return found


def test_value_and_deviation_are_those_of_the_seeds():
    (found,) = compare([seeds("a", A0, A1), seeds("b", B0, B1, B2)], ["dice"])
    first, second = cells(found, DICE)
    assert first.value == pytest.approx(0.55, abs=1e-12)  # 3.3 and 3.3 over six cases
    assert first.deviation == pytest.approx(0, abs=1e-12)
    assert first.mean == "0.55 (sd 0)"
    assert second.value == pytest.approx(13.3 / 18, abs=1e-12)  # 4.5, 4.4 and 4.4 over six cases
    assert second.deviation == pytest.approx(0.1 / 6 / np.sqrt(3), abs=1e-12)
    assert second.difference.value == pytest.approx(3.4 / 18, abs=1e-12)
    assert first.difference is None
    assert second.text.startswith("0.7389 (sd 0.0096) [")


def test_cases_are_drawn_once_for_all_seeds():
    """The mean over seeds of means over drawn cases is the mean over drawn cases of their means over seeds."""
    (found,) = compare([seeds("a", A0, A1), seeds("b", B0, B1, B2)], ["dice"])
    first, second = cells(found, DICE)
    a_V, b_V = np.mean([A0, A1], axis=0), np.mean([B0, B1, B2], axis=0)
    assert first.interval == pytest.approx(interval(lambda rows: a_V[rows].mean(), 6, resamples=200), abs=1e-12)
    paired = paired_difference(lambda rows: a_V[rows].mean(), lambda rows: b_V[rows].mean(), 6, resamples=200)
    assert second.difference.interval == pytest.approx(paired.interval, abs=1e-12)
    assert second.difference.p == paired.p
    alone = np.diff(interval(lambda rows: np.array(A0)[rows].mean(), 6, resamples=200))[0]
    assert np.diff(first.interval)[0] < 0.6 * alone  # the seeds err on different cases


def test_equal_seeds_are_as_good_as_one():
    single, thrice = Column("one", (run("a0", A0),)), seeds("three", A0, A0, A0)
    (found,) = compare([Column("b", (run("b", B0),)), single, thrice], ["dice", "iou"])
    for _, _, (_, one, three) in found.rows:
        assert three.value == pytest.approx(one.value, abs=1e-12)
        assert three.interval == pytest.approx(one.interval, abs=1e-12)
        assert three.difference.interval == pytest.approx(one.difference.interval, abs=1e-12)
        assert three.difference.p == one.difference.p
        assert (one.deviation, three.deviation) == (None, pytest.approx(0, abs=1e-12))
    assert len(found.rows) == 2


def test_a_single_evaluation_is_shown_as_its_results_have_it():
    stored = run("a", A0)
    row = next(row for row in stored.fields["chosen"]["results"] if row["metric"] == "dice")
    row["value"], row["interval"] = 0.123, [0.1, 0.2]
    (found,) = compare([Column("a", (stored,)), seeds("b", B0, B1)], ["dice"])
    assert cells(found, DICE)[0].text == "0.123 [0.1, 0.2]"
    assert not [text for text in found.notes if text.startswith("a:")]


def test_differences_are_over_the_cases_that_all_columns_have():
    (found,) = compare([seeds("a", A0[:4], A1[:4]), seeds("b", B0, B1)], ["dice"])
    assert found.title.endswith("4 cases compared")
    second = cells(found, DICE)[1]
    assert second.value == pytest.approx(8.9 / 12, abs=1e-12)
    assert second.difference.value == pytest.approx((6.0 - 4.4) / 8, abs=1e-12)
    assert "b has 2 cases that others lack; differences leave them out" in found.notes


def test_what_one_seed_leaves_undefined_has_no_mean():
    rising, constant = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (1.0,) * 6
    columns = [
        Column("a", (trials("a0", rising), trials("a1", constant))),
        Column("b", (trials("b0", rising), trials("b1", rising))),
    ]
    for order, place in ((columns, 0), (columns[::-1], 1)):
        (found,) = compare(order)
        for metric in ("spearman", "spearman_suturing"):
            row = next(row for row in found.rows if row[0] == metric)
            assert row[2][place] is None
            assert row[2][1 - place].difference is None
            assert row[2][1 - place].value == pytest.approx(1)
            assert note(found.notes, f"a: {metric} (").endswith("is undefined for a1: no mean is given")
        assert next(row for row in found.rows if row[0] == "mae")[2][place].value == pytest.approx(11 / 12)
        undefined = [text for text in found.notes if text.startswith("b minus a: spearman (")]
        assert len(undefined) == (place == 0)


@pytest.mark.parametrize(("distinct", "then"), [(3, "intervals leave them out"), (1, "no interval can be given")])
def test_draws_that_one_seed_leaves_undefined_are_counted(distinct, then):
    """Of twelve predictions some differ: a draw without any of those has no rank correlation."""
    rising, flat = np.arange(12.0), np.maximum(np.arange(12.0), 11 - distinct)
    (found,) = compare([Column("a", (trials("a", rising),)), Column("b", (trials("b0", rising), trials("b1", flat)))])
    rng = np.random.default_rng(0)
    without = sum(len(set(flat[rng.integers(0, 12, 12)])) == 1 for _ in range(200))
    assert 0 < without < 200
    told = note(found.notes, "b: spearman (mean over tasks through Fisher's z) is undefined, for one seed or more, in ")
    assert told.endswith(f"in {without} of 200 draws of 12 cases: {then}")


@pytest.mark.parametrize(("distinct", "then"), [(3, "intervals leave them out"), (1, "no interval can be given")])
def test_undefined_draws_of_single_evaluations_are_counted_too(distinct, then):
    rising, flat = np.arange(12.0), np.maximum(np.arange(12.0), 11 - distinct)
    columns = [Column(name, (trials(name, values),)) for name, values in (("a", rising), ("b", flat))]
    (found,) = compare(columns, ["spearman"])
    rng = np.random.default_rng(0)
    without = sum(len(set(flat[rng.integers(0, 12, 12)])) == 1 for _ in range(200))
    named = "spearman (mean over tasks through Fisher's z)"
    assert note(found.notes, f"b: {named}") == f"b: {named} is undefined in {without} of 200 draws of 12 cases: {then}"
    pair = [text for text in found.notes if text.startswith(f"b minus a: {named}")]
    draws = "is undefined in too many of 200 draws of 12 cases"
    told = f"b minus a: {named} {draws} (a: 0, b: {without}): no interval can be given"
    assert pair == ([told] if distinct == 1 else [])
    second = found.rows[0][2][1]
    assert (second.interval is None) == (second.difference.interval is None) == (distinct == 1)


def test_a_metric_that_one_column_leaves_undefined_keeps_its_row():
    rising, constant = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (1.0,) * 6
    columns = [Column(name, (trials(name, values),)) for name, values in (("a", constant), ("b", rising))]
    for order, place in ((columns, 0), (columns[::-1], 1)):
        (found,) = compare(order)
        assert [row[0] for row in found.rows] == ["mae", "spearman_suturing", "spearman"]  # the task's order
        for metric, _, row in found.rows[1:]:
            assert row[place] is None
            assert row[1 - place].value == pytest.approx(1)
            assert row[1 - place].difference is None
            assert "scores of the task are equal" in note(found.notes, f"a: {metric} (")
    assert [row[0] for row in compare([columns[0]])[0].rows] == ["mae"]


def test_a_metric_that_a_result_does_not_know_is_told():
    older = run("a", A0)
    rows = older.fields["chosen"]["results"]
    rows[:] = [{**row, "metric": "jaccard"} if row["metric"] == "iou" else row for row in rows]
    (found,) = compare([Column("a", (older,)), seeds("b", B0, B1)])
    assert [row[0] for row in found.rows] == ["dice", "iou", "dice_thresholds", "iou_thresholds", "jaccard"]
    assert note(found.notes, "a: iou (").endswith("is not among its results")
    assert note(found.notes, "b: jaccard (").endswith("is not among the results of every seed")


def test_a_draw_without_one_seed_has_no_mean():
    mean = SeedMean((lambda rows: 1.0, lambda rows: float("nan") if 3 not in rows else 2.0))
    assert mean(np.array([3, 1])) == 1.5
    assert np.isnan(mean(np.array([1, 1])))


def changed(fields, path, value):
    """Fields with the value at a dotted path replaced."""
    made = copy.deepcopy(fields)
    *parents, last = path.split(".")
    place = made
    for name in parents:
        place = place[name]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("benchmark", "jigsaws", "benchmark: 'polyp_segmentation' and 'jigsaws'"),
        ("protocol", "other", "protocol: 'official' and 'other'"),
        ("classes", {"task": ["a"]}, r"classes.task: None and \['a'\]"),
        ("config.probe.head", "linear", "config.probe.head: 'dense' and 'linear'"),
        ("config.report.resamples", 7, "config.report.resamples: 200 and 7"),
    ],
)
def test_seeds_of_other_evaluations_are_refused(path, value, line):
    one = run("r/a", A0)
    other = Run("r/b", changed(one.fields, path, value), one.tables)
    with pytest.raises(ValueError, match=rf"(?s)r/a and r/b are joined as seeds of one column, but.*  {line}\nJoin"):
        Column("ours", (one, other))


def test_seeds_may_differ_in_seeds():
    one = run("a", A0)
    fields = one.fields
    for path, value in (("config.data.seed", 5), ("config.sweep.seed", 6), ("config.report.seed", 7)):
        fields = changed(fields, path, value)
    assert Column("ours", (one, Run("b", fields, run("b", A1).tables))).cases == tuple(one.tables)


def test_seeds_of_other_cases_or_moments_are_refused():
    one, fewer = run("a", A0), run("b", A0[:4])
    with pytest.raises(ValueError, match="test cases: 6 and 4; not in both: case4, case5"):
        Column("ours", (one, fewer))
    moved = {case: table | {"time": table["time"] + (case == "case2")} for case, table in one.tables.items()}
    with pytest.raises(ValueError, match="  moments of test case 'case2'\nJoin"):
        Column("ours", (one, Run("b", one.fields, moved)))


def with_column(one, workdir, case, name, values):
    """The evaluation with another column in the table of a case."""
    tables = {key: table | ({name: np.array(values)} if key == case else {}) for key, table in one.tables.items()}
    return Run(workdir, one.fields, tables)


def test_seeds_of_another_truth_are_refused():
    one = trials("a", A0)
    with pytest.raises(ValueError, match="  truth of test case 'case2', at 1 of 1 moments\nJoin"):
        Column("ours", (one, with_column(one, "b", "case2", "truth", [7.0])))


def test_seeds_of_another_architecture_are_refused():
    small, large, unknown = (
        Run(name, run("a", A0).fields, run("a", A0).tables, architecture)
        for name, architecture in (("s", {"encoder": {"depth": 12}}), ("l", {"encoder": {"depth": 24}}), ("u", None))
    )
    with pytest.raises(ValueError, match="(?s)s and l are joined.*  architecture.encoder.depth: 12 and 24\nJoin"):
        Column("ours", (small, large))
    assert Column("ours", (small, unknown)).fields == small.fields


@pytest.mark.parametrize(
    ("case", "name", "values", "line"),
    [
        ("case1", "time", [3.0], "moments of test case 'case1'"),
        ("case2", "truth", [7.0], "truth of test case 'case2', at 1 of 1 moments"),
        ("case3", "task", [1.0], "task of test case 'case3', at 1 of 1 moments"),
    ],
)
def test_columns_of_other_moments_or_truth_are_refused(case, name, values, line):
    """The values that are reported are the same: without the check the columns would be paired."""
    one = trials("r/a", (0.0, 1.0, 2.0, 3.0, 4.0, 6.0))
    other = with_column(one, "r/b", case, name, values)
    with pytest.raises(
        ValueError, match=rf"(?s)r/a and r/b are columns of one table, but .*  {line}\nCompare only .* again, or leave"
    ):
        compare([Column("a", (one,)), Column("b", (other,))])


def test_truth_of_cases_that_only_some_columns_have_is_their_own():
    one = trials("a", (0.0, 1.0, 2.0, 3.0, 4.0, 6.0))
    other = with_column(one, "b", "case2", "truth", [7.0])
    third = Run("c", one.fields, {case: table for case, table in one.tables.items() if case != "case2"})
    (found,) = compare([Column(r.workdir, (r,)) for r in (one, other, third)])
    assert found.title.endswith("5 cases compared")


def test_columns_of_other_classes_are_refused():
    one = trials("a", (0.0, 1.0, 2.0, 3.0, 4.0, 6.0))
    other = Run("b", changed(one.fields, "classes.task", ["knots"]), one.tables)
    with pytest.raises(ValueError, match=r"  classes.task: \['suturing'\] and \['knots'\]\nCompare only"):
        compare([Column("a", (one,)), Column("b", (other,))])


def test_other_configs_are_told_in_a_note_a_column():
    one, fields = run("a", A0), run("b", B0).fields
    for path, value in (("data.frames", 64), ("data.fraction", 0.1), ("data.seed", 3), ("probe.head", "linear")):
        fields = changed(fields, f"config.{path}", value)
    base = changed(changed(one.fields, "config.data.frames", 16), "config.data.fraction", 1.0)
    first, other = Run("a", base, one.tables), Run("b", fields, run("b", B0).tables)
    (found,) = compare([Column("a", (first,)), Column("b", (other,)), Column("c", (Run("c", base, one.tables),))])
    told = [text for text in found.notes if "config" in text]
    assert told == ["b differs from a in its config: data.fraction 0.1, not 1.0; data.frames 64, not 16"]
    assert "b has head linear, a dense" in found.notes
    for number in range(NOTED + 1):
        fields = changed(fields, f"config.sweep.field{number}", number)
    (found,) = compare([Column("a", (first,)), Column("b", (Run("b", fields, other.tables),))])
    assert note(found.notes, "b differs from a in its config: ").endswith("; sweep.field3 3, not None; and 3 more")


def test_the_methods_of_intervals_are_told():
    one = run("a", A0)
    plain = Run("b", changed(one.fields, "config.report.method", "percentile"), run("b", B0).tables)
    for columns, words in (([one, run("b", B0)], "BCa"), ([plain], "percentile"), ([one, plain], "BCa or percentile")):
        (found,) = compare([Column(r.workdir, (r,)) for r in columns], ["dice"])
        assert found.notes[0].endswith(f"not corrected); intervals: of values {words}, of differences percentile")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("vjepa-0", "surgmotion-1"), True),
        (("vjepa-0", "vjepa-1"), False),
        (("vjepa-9", "vjepa-10"), False),
        (("random:vit_nano:0", "random:vit_nano:1"), False),
        (("ours", "ours"), False),
    ],
)
def test_seeds_of_encoders_with_other_names_say_so(names, told):
    made = [(name, run(f"w{number}", (A0, A1)[number])) for number, name in enumerate(names)]
    of_encoders = tuple(Run(r.workdir, changed(r.fields, "encoder.name", name), r.tables) for name, r in made)
    (found,) = compare([Column("a", of_encoders), seeds("b", B0)], ["dice"])
    line = f"a: its encoders differ in more than a number: {', '.join(names)}"
    assert [text for text in found.notes if "its encoders" in text] == ([line] if told else [])


def test_many_differences_are_counted():
    one = run("a", [0.5] * (LISTED + 2))
    moved = {case: table | {"time": table["time"] + 1} for case, table in one.tables.items()}
    with pytest.raises(ValueError, match=rf"  moments of test case 'case{LISTED - 1}'\n  and 2 more\nJoin"):
        Column("ours", (one, Run("b", one.fields, moved)))


def test_a_workdir_counts_once():
    with pytest.raises(ValueError, match=r"r/../a: given twice in the column a,b,r/../a; a mean over seeds counts"):
        Column("ours", (run("a", A0), run("b", A1), run("r/../a", A0)))


def test_seeds_that_change_nothing_are_told():
    (found,) = compare([seeds("a", A0, A1, A0), seeds("b", B0, B1)], ["dice"])
    told = [text for text in found.notes if "equal predictions" in text]
    assert told == ["a: some of its seeds have equal predictions: copies, or seeds that change nothing"]


def test_seeds_of_other_steps_say_so():
    one = run("a0", A0)
    later = Run("a1", changed(one.fields, "encoder.step", 200), one.tables)
    (found,) = compare([Column("a", (one, later)), seeds("b", B0)], ["dice"])
    assert "a: its encoders differ in step: 100, 200" in found.notes
    assert "a: mean of 2 seeds (a0, a1)" in found.notes
    assert note(found.notes, "sd is the standard deviation over seeds; intervals and p are over cases")


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["ours-0", "ours-1", "ours-2"], "ours"),
        (["ours_s10", "ours_s11"], "ours_s"),
        (["cholec80-0", "cholec80-1"], "cholec80"),
        (["base10", "base11"], "base"),
        (["base1", "base10"], "base"),
        (["cholec80", "cholec80-1"], "cholec80"),
        (["cholec80", "cholec80"], "cholec80"),
        (["0", "1"], "0"),
        (["red", "blue"], "red"),
        (["alone-7"], "alone-7"),
    ],
)
def test_the_name_of_several_seeds(names, shared):
    assert shared_name(names) == shared


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([None]) == [None]
    assert holm([]) == []


def test_the_summary_has_a_line_a_benchmark():
    rising, off = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (1.0, 2.0, 3.0, 4.0, 5.0, 7.0)
    skill = [Column(name, (trials(f"{name}/s", values),)) for name, values in (("a", off), ("b", rising))]
    masks = [seeds("a", A0, A1), seeds("b", B0, B1), seeds("c", B1, B2)]
    comparisons = compare([*masks, *skill], ["iou", "mae"])
    summary = summarise(comparisons)
    dice, mae = summary.lines
    assert summary.names == ("a", "b", "c")
    assert (dice.subject, dice.row[:2], dice.higher) == ("Polyp_Segmentation, protocol official", DICE, True)
    assert (mae.subject, mae.row[0], mae.higher) == ("Jigsaws, protocol official", "mae", False)
    assert mae.row[2][1].difference.value == pytest.approx(-7 / 6)
    p_values = [cell.difference.p for line in summary.lines for cell in line.row[2][1:]]
    assert [p for ps in summary.holm for p in ps[1:]] == holm(p_values)
    assert [ps[0] for ps in summary.holm] == [None, None]
    assert "(tests in this summary: 3)" in summary.notes[0]
    assert summarise(compare(masks)) is None


def test_columns_of_other_names_at_one_place_are_named_by_their_folder_or_both():
    skill = [Column(name, (trials(name, (0.0, 1.0, 2.5)),)) for name in ("r/skill", "x")]
    assert summarise(compare([seeds("r/masks", A0), seeds("b", B0), *skill], ["mae"])).names == ("r", "b / x")


def test_what_is_undefined_is_said_in_the_summary_too():
    gone = (float("nan"),) * 6
    masks = [seeds("a", A0, gone), seeds("b", B0, B1)]
    skill = [Column(name, (trials(name, (0.0, 1.0, 2.5)),)) for name in ("a", "b")]
    comparisons = compare([*masks, *skill], ["mae"])
    line = summarise(comparisons).lines[0]
    assert comparisons[0].rows == ()
    assert line.row[2][0] is None
    assert note(line.notes, "a: dice").endswith("is undefined for a1: no mean is given")
    assert any(
        text.startswith("Polyp_Segmentation, protocol official: a: dice") for text in summarise(comparisons).notes
    )
    (found,) = compare([seeds("a", gone, gone), masks[1]])
    assert cells(found, DICE)[0] is None
    assert note(found.notes, "a: dice (").endswith("is undefined for a0, a1: no mean is given")
