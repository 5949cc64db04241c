"""How long a compiled step should take by the TPU compiler's own estimates: in all, by part, by operation.

Two sums stand side by side: the plain one of what the compiler writes, and one in which operations without a matrix
product take at most what their bytes take (`parallel/estimates.py`). Neither counts collectives that nothing hides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from surgmotion_jax.parallel.estimates import Operation, operations
from surgmotion_jax.parallel.topology import Core

DEAREST = 10
PARTS = (
    "prepare",
    "target encoder",
    "context, forward",
    "predictor, forward",
    "recomputed",
    "context, backward",
    "predictor, backward",
    "losses",
    "optimiser and the rest",
)
SCOPES = {"prepare": "prepare", "losses": "losses", "targets": "target encoder"}  # named in the step
KernelCycles = Callable[[Operation], float | None]  # of one run of a kernel; None where no formula is known


@dataclass(frozen=True)
class Time:
    """Seconds on one device: as the compiler sums them up, and corrected for operations that only move memory."""

    plain: float = 0.0
    corrected: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(self.plain + other.plain, self.corrected + other.corrected)


@dataclass(frozen=True)
class Dear:
    """One of the operations that take longest."""

    time: Time
    count: float
    op_name: str
    source: str
    shape: str


@dataclass(frozen=True)
class StepTime:
    """Estimated time of a compiled step."""

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


def step_time(text: str, core: Core, flops: float, kernel_cycles: KernelCycles) -> StepTime | None:
    """The estimate of a compiled step; None where the compiler wrote none, as on CPUs."""
    found = operations(text, core.hbm_bytes_per_s / core.clock_hz)
    if not any(one.cycles for one in found):
        return None
    kernels = {one: kernel_cycles(one) for one in found if one.kernel}
    timed = [(one, _time(one, core, kernels.get(one))) for one in found]
    parts = {name: Time() for name in PARTS}
    for one, time in timed:
        parts[part_of(one.op_name)] += time
    return StepTime(
        sum((time for _, time in timed), Time()),
        sum(time.plain for one, time in timed if one.kernel),
        tuple(sorted({one.kernel for one, cycles in kernels.items() if cycles is None})),
        parts,
        _dearest(timed),
        flops,
    )


def part_of(op_name: str) -> str:
    """The part of the step that an operation belongs to, by the scopes of its name."""
    for scope, part in SCOPES.items():
        if re.search(rf"\b{scope}\b", op_name):
            return part
    model = "context" if "Encoder" in op_name else "predictor" if "Predictor" in op_name else ""
    model = model or ("predictor" if "PixelDecoder" in op_name else "")
    if not model:
        return "optimiser and the rest"
    if "rematted" in op_name:
        return "recomputed"
    if "transpose(" in op_name:
        return f"{model}, backward"
    return f"{model}, forward"


def _time(one: Operation, core: Core, kernel_cycles: float | None) -> Time:
    """Of all its runs; `kernel_cycles` are those of a kernel, which the compiler does not estimate."""
    if one.kernel:
        seconds = one.count * (kernel_cycles or 0.0) / core.clock_hz
        return Time(seconds, seconds)
    return Time(one.count * one.cycles / core.clock_hz, one.count * one.corrected / core.clock_hz)


def _dearest(timed: Sequence[tuple[Operation, Time]]) -> tuple[Dear, ...]:
    first = sorted(timed, key=lambda pair: -pair[1].plain)[:DEAREST]
    return tuple(Dear(time, one.count, one.op_name, one.source, one.shape) for one, time in first)
