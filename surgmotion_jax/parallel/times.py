"""How long a compiled program should take by the TPU compiler's own estimates: in all, by part, by operation.

Two sums stand side by side: the plain one of what the compiler writes, and one in which operations without a matrix
product take at most what their bytes take (`parallel/estimates.py`). Neither counts collectives that nothing hides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from surgmotion_jax.models.kernels.cycles import kernel_cycles
from surgmotion_jax.parallel.estimates import Operation, operations
from surgmotion_jax.parallel.topology import Core, Topology

DEAREST = 10
KernelCycles = Callable[[Operation], float | None]  # of one run of a kernel; None where no formula is known


@dataclass(frozen=True)
class Time:
    """Seconds on one device: as the compiler sums them up, and corrected for operations that only move memory."""

    plain: float = 0.0
    corrected: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(self.plain + other.plain, self.corrected + other.corrected)

    def times(self, count: float) -> Time:
        """Of so many runs."""
        return Time(count * self.plain, count * self.corrected)


@dataclass(frozen=True)
class Dear:
    """One of the operations that take longest."""

    time: Time
    count: float
    op_name: str
    source: str
    shape: str


@dataclass(frozen=True)
class ProgramTime:
    """Estimated time of one run of a compiled program."""

    total: Time
    kernels: float  # seconds of Pallas kernels, part of both sums
    unknown_kernels: tuple[str, ...]  # kernels without a formula, in neither sum
    parts: dict[str, Time]
    dearest: tuple[Dear, ...]
    flops: float  # of the model, one device's share, of the program that was compiled

    def mfu(self, peak_flops: float) -> Time:
        """Share of the peak, by the plain and by the corrected sum."""
        ideal = self.flops / peak_flops
        return Time(ideal / self.total.plain, ideal / self.total.corrected)


def program_time(
    text: str,
    core: Core,
    flops: float,
    cycles_of: KernelCycles,
    parts: Sequence[str] = (),
    part_of: Callable[[str], str] | None = None,
) -> ProgramTime | None:
    """The estimate of a compiled program; None where the compiler wrote none, as on CPUs.

    Where `part_of` is given, it names the one of the `parts` that an operation belongs to, by its name.
    """
    found = operations(text, core.hbm_bytes_per_s / core.clock_hz)
    if not any(one.cycles for one in found):
        return None
    kernels = {one: cycles_of(one) for one in found if one.kernel}
    timed = [(one, _time(one, core, kernels.get(one))) for one in found]
    by_part = {name: Time() for name in parts}
    if part_of is not None:
        for one, time in timed:
            by_part[part_of(one.op_name)] += time
    return ProgramTime(
        sum((time for _, time in timed), Time()),
        sum(time.plain for one, time in timed if one.kernel),
        tuple(sorted({one.kernel for one, cycles in kernels.items() if cycles is None})),
        by_part,
        _dearest(timed),
        flops,
    )


def time_on(
    topology: Topology,
    text: str,
    flops: float,
    parts: Sequence[str] = (),
    part_of: Callable[[str], str] | None = None,
) -> ProgramTime | None:
    """`program_time` of a program that was compiled for a topology; None for GPUs, and where there is no text."""
    core, name = topology.chip.core, topology.chip.name
    if core is None or not text:
        return None
    return program_time(text, core, flops, lambda one: kernel_cycles(one.kernel, one.shape, name), parts, part_of)


def _time(one: Operation, core: Core, cycles: float | None) -> Time:
    """Of all its runs; `cycles` are those of a kernel, which the compiler does not estimate."""
    if one.kernel:
        seconds = one.count * (cycles or 0.0) / core.clock_hz
        return Time(seconds, seconds)
    return Time(one.count * one.cycles / core.clock_hz, one.count * one.corrected / core.clock_hz)


def _dearest(timed: Sequence[tuple[Operation, Time]]) -> tuple[Dear, ...]:
    first = sorted(timed, key=lambda pair: -pair[1].plain)[:DEAREST]
    return tuple(Dear(time, one.count, one.op_name, one.source, one.shape) for one, time in first)
