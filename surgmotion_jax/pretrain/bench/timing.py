"""Timing steps against each other: subjects take turns, and every figure is a median with its quartiles.

Machines slow down and speed up while one looks: subjects measured one after the other are not comparable, subjects
that take turns step by step are. Nothing here knows what a subject does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from surgmotion_jax.parallel.topology import chip_of


@dataclass(frozen=True)
class StepTime:
    """Where one step's wall-clock seconds went, and the processor seconds of this process meanwhile."""

    data: float  # waiting for the batch
    transfer: float  # host to device
    device: float  # until the new state is there
    cpu: float = 0.0  # all threads together: comparable on a machine that has other work

    @property
    def total(self) -> float:
        return self.data + self.transfer + self.device


@dataclass(frozen=True)
class Quartiles:
    """Median, and the quartiles around it."""

    lower: float
    median: float
    upper: float


Subject = Callable[[], StepTime]


def quartiles(values: Sequence[float]) -> Quartiles:
    """Quartiles by linear interpolation between the sorted values; one value is its own."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def take_turns(subjects: Mapping[str, Subject], warmup: int, rounds: int) -> dict[str, list[StepTime]]:
    """Runs `warmup` rounds that do not count, then `rounds` that do; in each, every subject makes one step.

    The first of a round changes from round to round, so that none always follows the same other.
    """
    names = list(subjects)
    found: dict[str, list[StepTime]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time = subjects[name]()
            if turn >= warmup:
                found[name].append(time)
    return found


def ratios(these: Sequence[StepTime], those: Sequence[StepTime]) -> Quartiles:
    """Quartiles of the ratio of whole steps, round by round: what both slowed down for cancels."""
    return quartiles([a.total / b.total for a, b in zip(these, those, strict=True)])


def mfu(flops: float, seconds: float, device_kind: str, devices: int, dtype: str) -> float | None:
    """Model operations as a share of the peak of `devices` devices; None where the peak is not known.

    Peaks are those of bfloat16: a float32 step has none to be compared with.
    """
    chip = chip_of(device_kind)
    if chip is None or dtype != "bfloat16":
        return None
    return flops / seconds / (chip.peak_flops / chip.devices * devices)
