"""Which tasks may enter a comparison: the rule, number by number, and the reason for each that may not."""

from __future__ import annotations

import pytest

from surgmotion_jax.commands.study_headroom import subject_of, table
from surgmotion_jax.evaluate.headroom import Task, points_of, tasks_of
from surgmotion_jax.runs.configuration import override_of
from surgmotion_jax.runs.headroom import Subject


def task(random, tuned, **others):
    return Task("cholec80 f1", {"chance": 10.0, "pixels": 12.0, "random": random, "tuned": tuned, **others})


@pytest.mark.parametrize(
    ("random", "tuned", "failure"),
    [
        (30.0, 50.0, ""),
        (30.0, 49.0, "end to end is 19.0 above random weights, 20 are asked for"),
        (90.0, 110.0, ""),
        (91.0, 112.0, "random weights are 9.0 below the ceiling, 10 are asked for"),
        (95.0, 96.0, "end to end is 1.0 above random weights, 20 are asked for; random weights are 5.0 below the cei"),
        (None, 50.0, "random weights: the measure is undefined"),
        (30.0, None, "end to end: the measure is undefined"),
    ],
)
def test_a_task_enters_by_both_margins_or_says_why_not(random, tuned, failure):
    found = task(random, tuned).failure
    assert found.startswith(failure)
    assert bool(found) == bool(failure)


def test_points_are_hundredths_of_a_score_or_of_chances_error():
    assert points_of(0.25, None, error=False) == 25
    assert points_of(3.0, 4.0, error=True) == 25  # a quarter of chance's error is avoided
    assert points_of(5.0, 4.0, error=True) == -25
    assert points_of(3.0, None, error=True) is points_of(None, 4.0, error=True) is points_of(3.0, 0.0, True) is None


def results(family, values, choice):
    rows = [{"metric": metric, "convention": words, "value": value} for (metric, words), value in values.items()]
    fields = {"family": family, "benchmark": "mine", "choice": {"metric": choice[0], "convention": choice[1]}}
    return fields | {"chosen": {"results": rows}}


def test_the_measure_of_a_task_is_the_one_that_heads_are_chosen_by():
    values = {("f1", "union"): 0.9, ("f1", "present"): 0.4}
    (found,) = tasks_of({anchor: results("workflow", values, ("f1", "present")) for anchor in ("chance", "random")})
    assert found.name == "mine f1"
    assert found.points == {"chance": 40, "pixels": None, "random": 40, "tuned": None}


def test_parts_of_triplets_are_tasks_of_their_own():
    values = {(f"mAP_{part}", "words"): 0.1 * n for n, part in enumerate(("IVT", "I", "V", "T"))}
    found = tasks_of({"chance": results("triplet", values, ("mAP_IVT", "words"))})
    assert [task.name for task in found] == ["mine mAP_I", "mine mAP_V", "mine mAP_T"]
    assert [task.points["chance"] for task in found] == pytest.approx([10, 20, 30])


def test_the_table_keeps_what_failed():
    lines = list(table([task(30.0, 50.0), task(30.0, 31.0, pixels=None)]))
    assert lines[1].split()[2:7] == ["10.0", "12.0", "30.0", "50.0", "100.0"]
    assert lines[1].endswith("has headroom")
    assert " - " in lines[2]
    assert lines[2].endswith("end to end is 1.0 above random weights, 20 are asked for")
    assert lines[3].startswith("1 of 2 tasks have headroom")


def test_what_a_command_line_names_is_read_or_refused():
    assert subject_of("evaluate/cholec80:small=sim/a=b") == Subject("evaluate/cholec80:small", "sim/a=b")
    with pytest.raises(ValueError, match=r"'evaluate/cholec80' is not a config and a data set; write them as "):
        subject_of("evaluate/cholec80")
    assert override_of("data.size=64") == ("data.size", 64)
    assert override_of("probe.head=linear") == ("probe.head", "linear")
    with pytest.raises(ValueError, match=r"found 'data.size'; write a field of the config and its value"):
        override_of("data.size")
