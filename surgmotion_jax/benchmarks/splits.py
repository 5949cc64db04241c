"""Splits by case: held-out validation where the data set has none, folds, and the proof that nothing is cut in two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from surgmotion_jax.benchmarks.benchmark import SPLITS, Case
from surgmotion_jax.benchmarks.errors import BenchmarkError

VALIDATION_SEED = 42
VALIDATION_SHARE = 0.2
"""Eight of forty training videos, as is usual for Cholec80."""


def draw_order(groups: Iterable[str], seed: int) -> list[str]:
    """The distinct groups in a random order that depends on the seed and the names alone: neither on the order in
    which they come, nor on the machine or library version. Adding a group moves no other past another."""
    return sorted(set(groups), key=lambda group: hashlib.sha256(f"{seed}/{group}".encode()).digest())


def hold_out_validation(
    train_groups: Iterable[str],
    *,
    share: float = VALIDATION_SHARE,
    count: int | None = None,
    seed: int = VALIDATION_SEED,
) -> frozenset[str]:
    """Training groups to validate on: `count` of them, or a share (rounded, at least one).

    Pass the groups of the official list, not those on disk, where there is one: then a part of the data set is
    split as the whole is.

    Raises:
        ValueError: where nothing would be left to train on.
    """
    order = draw_order(train_groups, seed)
    wanted = max(1, round(share * len(order))) if count is None else count
    if not 0 < wanted < len(order):
        raise ValueError(
            f"{len(order)} training groups cannot give {wanted} for validation and keep some; add training cases"
        )
    return frozenset(order[:wanted])


def hold_out_cases(cases: Sequence[Case], stratify: str | None = None) -> dict[str, tuple[Case, ...]]:
    """`train` and `val` from training cases of a data set without an official list of cases or of validation cases.

    `stratify` names a per-case label; validation cases are then drawn within each class. A single group (of a class)
    stays in training.
    """
    held: set[str] = set()
    strata: dict[int, set[str]] = {}
    for case in cases:
        stratum = int(case.labels[stratify][0]) if stratify else 0
        strata.setdefault(stratum, set()).add(case.group)
    for groups in strata.values():
        if len(groups) > 1:
            held |= hold_out_validation(groups)
    return {
        "train": tuple(case for case in cases if case.group not in held),
        "val": tuple(case for case in cases if case.group in held),
    }


def by_split(cases: Iterable[Case], split_of: Mapping[str, str]) -> dict[str, tuple[Case, ...]]:
    """Cases by split, from the split of each group. Raises BenchmarkError for a group that no split names."""
    found: dict[str, list[Case]] = {split: [] for split in SPLITS}
    for case in cases:
        if case.group not in split_of:
            known = ", ".join(sorted(split_of)[:8])
            raise BenchmarkError(
                case.annotation or case.id,
                f"case {case.group!r}",
                f"cases of the official splits ({known}, ...)",
                "remove the case or correct its name",
            )
        found[split_of[case.group]].append(case)
    return {split: tuple(members) for split, members in found.items()}


def split_table(**groups: Iterable[str]) -> dict[str, str]:
    """Group -> split, from the groups of each split. A group in two of them is an error of the reader."""
    table: dict[str, str] = {}
    for split, members in groups.items():
        for group in members:
            assert group not in table, f"{group} is in {table[group]} and in {split}"
            table[group] = split
    return table


def check_disjoint(cases: Mapping[str, Sequence[Case]]) -> None:
    """Raises ValueError where a group lies in two splits, or two cases share an id."""
    for problem in overlaps(cases):
        raise ValueError(f"{problem}; a split must not cut a patient, procedure or source video in two")


def overlaps(cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """What lies in more than one split, in words; empty where the splits are disjoint."""
    problems: list[str] = []
    split_of_group: dict[str, str] = {}
    split_of_id: dict[str, str] = {}
    for split, members in cases.items():
        for case in members:
            other = split_of_group.setdefault(case.group, split)
            if other != split:
                problems.append(f"group {case.group!r} (case {case.id!r}) is in {other} and in {split}")
            if case.id in split_of_id:
                problems.append(f"case {case.id!r} is listed twice, in {split_of_id[case.id]} and in {split}")
            split_of_id[case.id] = split
    return list(dict.fromkeys(problems))
