"""Splits never cut a group in two, and depend on nothing but names and seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from surgmotion_jax.benchmarks import autolaparo, cholec80, egosurgery, m2cai16, pitvis
from surgmotion_jax.benchmarks.avos import video_splits
from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.splits import (
    by_split,
    check_disjoint,
    draw_order,
    hold_out_cases,
    hold_out_validation,
    overlaps,
)
from surgmotion_jax.benchmarks.surgicalactions160 import CLASS_COUNT, FOLDS, folds

NAMES = [f"v{n}" for n in range(40)]


def case(name: str, group: str | None = None, action: int = 0) -> Case:
    return Case(name, group or name, ImageFrames(()), np.zeros(1), {"action": np.array([action])})


def test_held_out_groups_depend_on_names_and_seed_alone():
    held = hold_out_validation(NAMES, count=8)
    assert len(held) == 8
    assert held < set(NAMES)
    assert hold_out_validation(NAMES[::-1] + NAMES, count=8) == held
    assert hold_out_validation(NAMES, count=8, seed=1) != held
    assert hold_out_validation(NAMES) == held  # a fifth
    # Adding a video moves no other past another.
    order = draw_order(NAMES, 42)
    assert [n for n in draw_order([*NAMES, "new"], 42) if n != "new"] == order


def test_too_few_groups_to_hold_out():
    with pytest.raises(ValueError, match="1 training groups cannot give 1 for validation and keep some"):
        hold_out_validation(["a"])
    with pytest.raises(ValueError, match="add training cases"):
        hold_out_validation(NAMES, count=40)


def test_held_out_cases_keep_groups_together_and_classes_apart():
    cases = [case(f"{n}", f"p{n // 2}", action=n % 20 // 10) for n in range(40)]
    split = hold_out_cases(cases, stratify="action")
    check_disjoint(split)
    assert Counter(int(c.labels["action"][0]) for c in split["val"]) == {0: 4, 1: 4}


def test_overlaps_are_found():
    twice = {"train": (case("a"), case("b", "p")), "test": (case("c", "p"), case("a"))}
    found = overlaps(twice)
    assert "group 'p' (case 'c') is in train and in test" in found
    assert "case 'a' is listed twice, in train and in test" in found
    with pytest.raises(ValueError, match="a split must not cut a patient"):
        check_disjoint(twice)
    assert not overlaps({"train": (case("a"),), "test": (case("b"),)})


def test_a_case_outside_the_official_lists_is_refused():
    with pytest.raises(BenchmarkError, match=r"case 'z'.*official splits \(a, "):
        by_split([case("z")], {"a": "train"})


def test_official_lists():
    """Counts and test videos as the data sets publish them; validation, where none is official, from training."""
    assert set(cholec80.TRAIN) | set(cholec80.VAL) == {f"video{n:02d}" for n in range(1, 41)}
    assert (len(cholec80.TRAIN), len(cholec80.VAL), len(cholec80.TEST)) == (32, 8, 40)
    assert (len(autolaparo.TRAIN), len(autolaparo.VAL), len(autolaparo.TEST)) == (10, 4, 7)
    assert (len(m2cai16.TRAIN), len(m2cai16.VAL), len(m2cai16.TEST)) == (22, 5, 14)
    assert (len(egosurgery.TRAIN), len(egosurgery.VAL), len(egosurgery.TEST)) == (13, 2, 5)
    assert (len(pitvis.TRAIN), len(pitvis.VAL), len(pitvis.TEST)) == (16, 4, 5)
    for module in (cholec80, autolaparo, m2cai16, egosurgery, pitvis):
        assert not set(module.TRAIN) & set(module.VAL)
        assert not set(module.TRAIN + module.VAL) & set(module.TEST)


def test_folds_are_even_in_all_and_within_a_class():
    ids = [[f"{action}/{clip}" for clip in range(10)] for action in range(CLASS_COUNT)]
    fold_of = folds(ids)
    assert Counter(fold_of.values()) == dict.fromkeys(range(FOLDS), 40)
    for members in ids:
        assert set(Counter(fold_of[name] for name in members).values()) == {2, 3}
    assert folds([members[::-1] for members in ids]) == fold_of


def test_source_videos_are_dealt_to_three_splits(tmp_path):
    split_of = video_splits(NAMES, tmp_path)
    assert Counter(split_of.values()) == {"train": 28, "val": 6, "test": 6}
    with pytest.raises(BenchmarkError, match="at least 3 videos"):
        video_splits(["a", "b"], tmp_path)
