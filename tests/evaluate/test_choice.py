"""The best candidate on validation cases is chosen, and what was written is read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from surgmotion_jax.evaluate import choice as choice_module
from surgmotion_jax.evaluate.choice import CHOICE_FILE, best, choose, read_choice, write_choice
from surgmotion_jax.evaluate.tasks.skill import SkillTask
from surgmotion_jax.evaluate.tasks.workflow import WorkflowTask

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "higher", "wanted"),
    [
        ((0.1, 0.3, 0.2), True, 1),
        ((0.1, 0.3, 0.2), False, 0),
        ((0.3, 0.1, 0.3), True, 0),
        ((NAN, 0.1, NAN), True, 1),
        ((0.2, 0.1, 0.1), False, 1),
        ((NAN, NAN), True, None),
    ],
)
def test_the_best_defined_value_wins_and_of_equals_the_first(values, higher, wanted):
    assert best(values, higher) == wanted


def tables(*predictions):
    truth = np.array([0, 0, 1, 1])
    return [[{"truth": truth, "predicted": np.array(p)}] for p in predictions]


def test_more_of_a_score_and_less_of_an_error_is_better(tmp_path):
    task = WorkflowTask(("a", "b"))
    found = choose(task, ["x", "y", "z"], tables([0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]), ["v"])
    assert (found.number, found.name, found.values[1]) == (1, "y", 1.0)
    write_choice(tmp_path, found)
    assert read_choice(tmp_path) == found
    scores = [[{"truth": np.ones(2), "predicted": np.full(2, p), "task": np.zeros(2)}] for p in (3.0, 1.5, 2.0)]
    assert choose(SkillTask(("suturing",)), ["x", "y", "z"], scores, ["v"]).name == "y"


def test_validation_that_defines_nothing_is_said(monkeypatch):
    monkeypatch.setattr(choice_module, "value_of", lambda *_: (NAN, True))
    with pytest.raises(ValueError, match="f1 .* is undefined on the validation cases v: no head can be chosen"):
        choose(WorkflowTask(("a", "b")), ["x"], tables([0, 0, 1, 1]), ["v"])


def test_another_schema_or_a_missing_file(tmp_path):
    assert read_choice(tmp_path) is None
    write_choice(tmp_path, choose(WorkflowTask(("a", "b")), ["x"], tables([0, 0, 1, 1]), ["v"]))
    fields = json.loads((tmp_path / CHOICE_FILE).read_text())
    (tmp_path / CHOICE_FILE).write_text(json.dumps(fields | {"schema_version": 9}))
    with pytest.raises(ValueError, match=r"choice.json: not a choice of schema 1"):
        read_choice(tmp_path)
