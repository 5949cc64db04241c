"""Choosing the mesh (data, fsdp, tensor) from devices, slices, memory, model and batch, and saying why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax

from surgmotion_jax.parallel.config import ParallelConfig

STATE_SHARE = 0.5  # of a device's memory that parameters, moments, target and gradients may take
LIGHT = 500_000_000  # bytes of them that an update passes over in about a millisecond, on any accelerator
SPREAD = 16  # devices over which a state is spread to make it so light; more cut weights into thin shards
THIN = 24  # columns of a shard below which a TPU was seen to gather by summing, which costs twice the traffic


@dataclass(frozen=True)
class Demand:
    """What a run asks of a mesh."""

    state_bytes: int  # parameters, optimiser, EMA and gradients, unsharded
    batch: int  # data x fsdp must divide it
    fsdp_dims: int  # fsdp must divide it: the greatest common divisor of the dimensions that it splits
    tensor_dims: int  # tensor must divide it: the same of heads and hidden units
    narrowest: int  # the smallest dimension that fsdp splits


class Row(NamedTuple):
    """One line of the table that explains a choice."""

    axis: str
    size: int
    why: str

    def __str__(self) -> str:
        return f"{self.axis:<6}  {self.size:>5}  {self.why}"


class _Candidate(NamedTuple):
    data: int
    fsdp: int
    tensor: int


def choose_mesh(demand: Demand, devices: int, slices: int, memory: int | None) -> tuple[ParallelConfig, list[Row]]:
    """The mesh, and the table that explains it.

    In this order: the state must fit in its share of `memory` (bytes of a device; None: unknown, taken as enough);
    fsdp and tensor stay within a slice, so that only gradients cross the slower network between slices; as little
    tensor as the batch permits, since it communicates in every layer; as little fsdp as the memory permits, but enough
    for every device to update a LIGHT part of the state, at most SPREAD. Raises ValueError where no mesh of so many
    devices splits the batch.
    """
    candidates = list(_candidates(demand, devices))
    if not candidates:
        raise ValueError(
            f"parallel.mesh is 'auto', but no mesh of {devices} devices splits batches into equal parts of "
            f"{demand.batch} clips (the greatest common divisor of optim.batch / optim.accumulate and heldout.batch): "
            f"parts and their tensor groups (which divide {demand.tensor_dims}) must make {devices}. Use batches that "
            f"are multiples of {devices}, or another number of devices."
        )
    budget = math.inf if memory is None else STATE_SHARE * memory

    def rank(c: _Candidate) -> tuple[float, bool, int, float, int]:
        heavy = 0.0 if memory is None else max(0.0, demand.state_bytes / min(c.fsdp, SPREAD) - LIGHT)
        return max(0.0, _share(demand, c) - budget), bool(c.data % slices), c.tensor, heavy, c.fsdp

    best = min(candidates, key=rank)
    sizes = ParallelConfig(best.data, best.fsdp, best.tensor)
    return sizes, [
        Row("data", best.data, _why_data(best, slices)),
        Row("fsdp", best.fsdp, _why_fsdp(demand, best, memory)),
        Row("tensor", best.tensor, _why_tensor(demand, best, devices)),
    ]


def _candidates(demand: Demand, devices: int) -> Iterator[_Candidate]:
    for tensor in _divisors(math.gcd(devices, demand.tensor_dims)):
        parts = devices // tensor
        if demand.batch % parts:
            continue
        for fsdp in _divisors(math.gcd(parts, demand.fsdp_dims)):
            yield _Candidate(parts // fsdp, fsdp, tensor)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _share(demand: Demand, c: _Candidate) -> float:
    return demand.state_bytes / (c.fsdp * c.tensor)


def _gb(amount: float) -> str:
    return f"{amount / 1e9:.3g} GB"


def _why_data(c: _Candidate, slices: int) -> str:
    copies = (
        "one copy of the state" if c.data == 1 else f"{c.data} copies of the state, one a group of {c.fsdp * c.tensor}"
    )
    if slices == 1:
        return copies
    if c.data % slices:
        return f"{copies}; the groups do not fit in one of the {slices} slices, so parameters cross between them"
    return f"{copies}; outermost, so that between the {slices} slices only gradients travel"


def _why_fsdp(demand: Demand, c: _Candidate, memory: int | None) -> str:
    state = f"state and gradients of {_gb(demand.state_bytes)}"
    if memory is None:
        return f"{state}; a device's memory is unknown here and taken as enough"
    held = f"{_gb(_share(demand, c))} a device, of {_gb(memory)}"
    if _share(demand, c) > STATE_SHARE * memory:
        return f"{state}: {held}; no mesh comes nearer to the {STATE_SHARE:.0%} that leaves room for activations"
    thin = demand.narrowest // c.fsdp
    warning = f"; its thinnest shards have {thin} columns, which a TPU may gather by summing" if thin < THIN else ""
    if c.fsdp == 1:
        return f"{state}: {held}; an update is quick without splitting"
    if c.fsdp > SPREAD:
        return f"{state}: {held}; the fewest that stay under {STATE_SHARE:.0%}{warning}"
    return f"{state}: {held}; split so that an update is quick{warning}"


def _why_tensor(demand: Demand, c: _Candidate, devices: int) -> str:
    if c.tensor == 1:
        return "every device has clips of its own"
    if demand.batch % devices:
        return f"{demand.batch} clips do not feed {devices} devices, so {c.tensor} neighbours share a clip; innermost"
    return f"fsdp alone cannot split the state far enough, so {c.tensor} neighbours split heads and MLPs; innermost"


def slice_count(devices: Sequence[jax.Device]) -> int:
    """Number of slices that the devices belong to; 1 where devices know of none."""
    return len({getattr(d, "slice_index", 0) for d in devices})


def device_memory(device: jax.Device) -> int | None:
    """Bytes of a device's memory that a program may take, where it says so."""
    try:
        stats = device.memory_stats()
    except Exception:  # described devices, which exist only for the compiler, refuse in several ways
        return None
    return stats.get("bytes_limit") if stats else None
