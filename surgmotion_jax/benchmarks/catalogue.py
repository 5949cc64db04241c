"""Benchmarks by name. Adding one is a file that defines `BENCHMARK` and a line in the table here."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from surgmotion_jax.benchmarks.benchmark import FAMILIES, Benchmark
from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.data.tfds_source import is_tfds

BENCHMARKS = {
    name: f"surgmotion_jax.benchmarks.{name}"
    for name in (
        "cholec80",
        "autolaparo",
        "m2cai16",
        "egosurgery",
        "pitvis",
        "ophnet2024",
        "pmlr50",
        "atlas_neurosurgical",
        "surgicalactions160",
        "avos",
        "polypdiag",
        "cholect50",
        "jigsaws",
        "polyp_segmentation",
        "c3vd",
        "scared",
        "hamlyn",
        "own_frames",
    )
}
"""Name on the command line -> module with a `BENCHMARK`."""


def names() -> tuple[str, ...]:
    """All names, in table order."""
    return tuple(BENCHMARKS)


def get(name: str, root: str | os.PathLike[str] | None = None) -> Benchmark:
    """The benchmark of that name; where it depends on the data set, that of the one at `root`.

    Raises ValueError, with the nearest name, for an unknown one, and for a root that cannot be read.
    """
    if name not in BENCHMARKS:
        hint = did_you_mean(name, names())
        raise ValueError(f"unknown benchmark {name!r}; there are {', '.join(names())}.{hint}")
    found: Benchmark = importlib.import_module(BENCHMARKS[name]).BENCHMARK
    if found.at is not None and root is not None and not is_tfds(os.fspath(root)):
        found = found.at(Path(root).expanduser())
    return checked(found)


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
