"""The cases of an evaluation. Test labels are left on disk until they are asked for, after the head was chosen."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents
from surgmotion_jax.benchmarks.splits import check_disjoint, draw_order
from surgmotion_jax.benchmarks.tfds_contents import read_contents
from surgmotion_jax.evaluate.config import DataConfig


@dataclass(frozen=True, eq=False)
class Cohort:
    """Cases by what they are for. Those of `test` have frames and moments, and no label, mask or depth."""

    benchmark: Benchmark
    contents: Contents  # without test labels, too
    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]

    @property
    def cases(self) -> tuple[Case, ...]:
        """Those of all splits."""
        return (*self.train, *self.val, *self.test)

    @property
    def ids(self) -> dict[str, list[str]]:
        """Names of the cases by split."""
        return {split: [case.id for case in getattr(self, split)] for split in SPLITS}


def read_cohort(data: DataConfig, root: str) -> Cohort:
    """Training and validation cases with their labels, test cases without.

    Raises ValueError (BenchmarkError) where the root is not what the benchmark's layout says, or a split is empty.
    """
    contents = _read(data, root)
    benchmark = catalogue.get(data.benchmark, root)
    check_disjoint(contents.cases)
    cases = {**contents.cases, "test": tuple(map(unlabelled, contents.cases["test"]))}
    for split, members in cases.items():
        if not sum(len(case.times_N) for case in members):
            raise ValueError(
                f"{root}: {benchmark.title}, protocol {contents.protocol}, has no scored moment in {split}; a head is "
                "trained, chosen and reported on three different splits: add cases, or use another protocol"
            )
    contents = dataclasses.replace(contents, cases=cases)
    train = drawn(cases["train"], data.fraction, data.seed)
    if not sum(len(case.times_N) for case in train):
        left = ", ".join(case.id for case in train[:4])
        raise ValueError(
            f"data.fraction is {data.fraction:g}, which leaves {left} to learn from, without a scored moment; give a "
            "larger share or another data.seed"
        )
    return Cohort(benchmark, contents, train, cases["val"], cases["test"])


def read_test_cases(data: DataConfig, root: str, expected: Sequence[Case]) -> tuple[Case, ...]:
    """The test cases with their labels. Raises ValueError where they are not the expected ones any more."""
    found = _read(data, root).cases["test"]
    same = [case.id for case in found] == [case.id for case in expected]
    if not same or any(len(a.times_N) != len(b.times_N) for a, b in zip(found, expected, strict=True)):
        raise ValueError(f"{root}: the test cases changed while the evaluation ran; repeat it with a new --workdir")
    return found


def unlabelled(case: Case) -> Case:
    """The case with nothing that could be scored against."""
    return dataclasses.replace(case, labels={}, masks=(), depths=())


def drawn(cases: Sequence[Case], fraction: float, seed: int) -> tuple[Case, ...]:
    """A share of the cases by group, at least one group; a larger share holds every smaller one of its seed."""
    groups = draw_order((case.group for case in cases), seed)
    kept = set(groups[: max(1, math.ceil(fraction * len(groups) - 1e-9))])
    return tuple(case for case in cases if case.group in kept)


def _read(data: DataConfig, root: str) -> Contents:
    benchmark = catalogue.get(data.benchmark, root)
    return read_contents(benchmark, os.path.expanduser(root), catalogue.protocol_of(benchmark, data.protocol or None))
