"""Benchmarks by name. Adding one is a file that defines `BENCHMARK` and a line in the table here."""

from __future__ import annotations

import importlib

from surgmotion_jax.benchmarks.benchmark import FAMILIES, Benchmark
from surgmotion_jax.checks import did_you_mean

BENCHMARKS: dict[str, str] = {
    "cholec80": "surgmotion_jax.benchmarks.cholec80",
    "autolaparo": "surgmotion_jax.benchmarks.autolaparo",
    "m2cai16": "surgmotion_jax.benchmarks.m2cai16",
    "egosurgery": "surgmotion_jax.benchmarks.egosurgery",
    "pitvis": "surgmotion_jax.benchmarks.pitvis",
    "ophnet2024": "surgmotion_jax.benchmarks.ophnet2024",
    "pmlr50": "surgmotion_jax.benchmarks.pmlr50",
    "atlas_neurosurgical": "surgmotion_jax.benchmarks.atlas_neurosurgical",
    "surgicalactions160": "surgmotion_jax.benchmarks.surgicalactions160",
    "avos": "surgmotion_jax.benchmarks.avos",
    "polypdiag": "surgmotion_jax.benchmarks.polypdiag",
    "cholect50": "surgmotion_jax.benchmarks.cholect50",
    "jigsaws": "surgmotion_jax.benchmarks.jigsaws",
    "polyp_segmentation": "surgmotion_jax.benchmarks.polyp_segmentation",
    "c3vd": "surgmotion_jax.benchmarks.c3vd",
    "scared": "surgmotion_jax.benchmarks.scared",
    "hamlyn": "surgmotion_jax.benchmarks.hamlyn",
}
"""Name on the command line -> module with a `BENCHMARK`."""

_REGISTERED: dict[str, Benchmark] = {}


def names() -> tuple[str, ...]:
    """All names, in table order, those registered at run time last."""
    return tuple(dict.fromkeys([*BENCHMARKS, *_REGISTERED]))


def get(name: str) -> Benchmark:
    """The benchmark of that name. Raises ValueError, with the nearest name, for an unknown one."""
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in BENCHMARKS:
        hint = did_you_mean(name, names())
        raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(names())}.{hint}")
    return checked(importlib.import_module(BENCHMARKS[name]).BENCHMARK)


def register(benchmark: Benchmark) -> Benchmark:
    """Adds a benchmark for this process. Raises ValueError for a name that is taken or a row that is not one."""
    if benchmark.name in names():
        raise ValueError(f"benchmark {benchmark.name!r} exists already; choose another name")
    _REGISTERED[benchmark.name] = checked(benchmark)
    return benchmark


def checked(benchmark: Benchmark) -> Benchmark:
    """Returns `benchmark`. Raises ValueError naming the field that cannot be used."""
    if benchmark.family not in FAMILIES:
        raise ValueError(f"benchmark {benchmark.name!r}: family is {benchmark.family!r}, one of {', '.join(FAMILIES)}")
    if not benchmark.protocols:
        raise ValueError(f"benchmark {benchmark.name!r}: protocols is empty; name at least one split or fold")
    for name, members in benchmark.pooled.items():
        if name in benchmark.protocols or not members or not set(members) <= set(benchmark.protocols):
            raise ValueError(
                f"benchmark {benchmark.name!r}: pooled {name!r} must be a new name for some of its protocols"
            )
    return benchmark


def protocol_of(benchmark: Benchmark, asked: str | None) -> str:
    """The protocol that is asked for, the first one by default. Raises ValueError for one that is not declared."""
    protocol = benchmark.protocols[0] if asked is None else asked
    if protocol not in benchmark.protocols:
        known = ", ".join(benchmark.protocols)
        if protocol in benchmark.pooled:
            raise ValueError(f"{benchmark.name}: {protocol} pools several folds; here one is wanted, of {known}")
        pooled = f"; to pool folds, {', '.join(benchmark.pooled)}" if benchmark.pooled else ""
        raise ValueError(f"{benchmark.name} has no protocol {protocol!r}; there are {known}{pooled}")
    return protocol
