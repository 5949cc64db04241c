"""What a layout is: which operations to simulate for a data set, and how their files are written.

A layout module defines `LAYOUT`. Its `plan` names the cases as the real set would, in its real splits; `write_case`
writes everything that belongs to one case (it runs in a process of its own, into an empty folder whose content is
then moved into the data set as a whole); `write_index` writes the files that speak of all cases, afterwards.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.simulate.case import Frame, Script, Vocabulary

LAYOUTS: dict[str, str] = {
    "cholec80": "surgmotion_jax.simulate.layouts.cholec80",
    "autolaparo": "surgmotion_jax.simulate.layouts.autolaparo",
    "m2cai16": "surgmotion_jax.simulate.layouts.m2cai16",
    "egosurgery": "surgmotion_jax.simulate.layouts.egosurgery",
    "pitvis": "surgmotion_jax.simulate.layouts.pitvis",
    "ophnet2024": "surgmotion_jax.simulate.layouts.ophnet2024",
    "pmlr50": "surgmotion_jax.simulate.layouts.pmlr50",
    "atlas_neurosurgical": "surgmotion_jax.simulate.layouts.atlas_neurosurgical",
    "surgicalactions160": "surgmotion_jax.simulate.layouts.surgicalactions160",
    "avos": "surgmotion_jax.simulate.layouts.avos",
    "polypdiag": "surgmotion_jax.simulate.layouts.polypdiag",
    "cholect50": "surgmotion_jax.simulate.layouts.cholect50",
    "jigsaws": "surgmotion_jax.simulate.layouts.jigsaws",
    "polyp_segmentation": "surgmotion_jax.simulate.layouts.polyp_segmentation",
    "c3vd": "surgmotion_jax.simulate.layouts.c3vd",
    "scared": "surgmotion_jax.simulate.layouts.scared",
    "hamlyn": "surgmotion_jax.simulate.layouts.hamlyn",
    "own_frames": "surgmotion_jax.simulate.layouts.own_frames",
    "pretrain": "surgmotion_jax.simulate.layouts.pretrain",
}
"""Name on the command line -> module with a `LAYOUT`. Benchmarks and their layouts share names."""


@dataclass(frozen=True)
class CasePlan:
    """One case to simulate."""

    id: str  # as the real data set would name it
    split: str  # train, val or test: where that name puts it
    vocabulary: Vocabulary
    specialty: str = "laparoscopic"
    lesion: bool = False
    label: int | None = None  # class of the whole case, where the data set labels whole cases


@dataclass(frozen=True, eq=False)
class SimulatedCase:
    """A case whose frames are drawn when they are asked for."""

    plan: CasePlan
    script: Script
    draw: Callable[[Script], Iterable[Frame]]  # simulate.render.render

    @property
    def id(self) -> str:
        return self.plan.id

    def frames(self) -> Iterator[Frame]:
        """All frames in order. Drawn anew by every call, so call it once."""
        return iter(self.draw(self.script))

    @property
    def fps(self) -> float:
        return self.script.config.fps

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return self.script.frames / self.fps

    def frame_at(self, second: float) -> int:
        """Number of the frame on display `second` seconds from the start."""
        return min(int(np.floor(second * self.fps + 1e-6)), self.script.frames - 1)

    def moments(self, rate: float) -> int:
        """How many times k / rate, k = 0, 1, ..., lie within the case."""
        return int(np.ceil(self.duration * rate - 1e-6))

    def at_rate(self, rate: float) -> Iterator[tuple[int, Frame]]:
        """(k, frame on display at k / rate seconds): what extracting images at that rate gives."""
        wanted: dict[int, list[int]] = {}
        for k in range(self.moments(rate)):
            wanted.setdefault(self.frame_at(k / rate), []).append(k)
        for frame in self.frames():
            yield from ((k, frame) for k in wanted.get(frame.number, ()))

    def phase_at(self, second: float) -> int:
        """Phase of the frame on display `second` seconds from the start."""
        return int(self.script.phase_T[self.frame_at(second)])


@dataclass(frozen=True)
class Layout:
    """How one data set is simulated. `write_index` gets every case of the set; their frames are written by then."""

    name: str  # of the benchmark with the same layout
    specialty: str  # one of simulate.case.SPECIALTIES
    fps: float  # frame rate at which the operation is drawn unless asked otherwise
    plan: Callable[[int, int], Sequence[CasePlan]]  # (number of cases, seed)
    write_case: Callable[[SimulatedCase, Path], None]  # (case, data set root, only this case's files appear in it)
    write_index: Callable[[Sequence[SimulatedCase], Path], None] | None = None  # (all cases, data set root)


def get_layout(name: str) -> Layout:
    """The layout of that name. Raises ValueError, with the nearest name, for an unknown one."""
    if name not in LAYOUTS:
        hint = did_you_mean(name, LAYOUTS)
        raise ValueError(f"unknown layout {name!r}; there are {', '.join(LAYOUTS)}.{hint}")
    return importlib.import_module(LAYOUTS[name]).LAYOUT


def write(layout: Layout, cases: Sequence[SimulatedCase], out: Path) -> None:
    """Writes a whole data set in this process."""
    for case in cases:
        layout.write_case(case, out)
    if layout.write_index is not None:
        layout.write_index(cases, out)


def spread_over_splits(ids_by_split: Mapping[str, Sequence[str]], cases: int) -> list[tuple[str, str]]:
    """`cases` pairs (id, split) of the official ids: one of each split first, then in proportion to its size.

    Raises ValueError when the real set has fewer cases, or fewer are asked than there are splits.
    """
    total = sum(len(ids) for ids in ids_by_split.values())
    if not len(ids_by_split) <= cases <= total:
        raise ValueError(
            f"--cases is {cases}; this data set has {total} cases in {len(ids_by_split)} splits: "
            f"ask for {len(ids_by_split)} to {total}"
        )
    counts = {split: 1 for split in ids_by_split}
    for _ in range(cases - len(counts)):
        # The split furthest behind its share gets the next case.
        behind = min(
            (split for split in counts if counts[split] < len(ids_by_split[split])),
            key=lambda split: counts[split] / len(ids_by_split[split]),
        )
        counts[behind] += 1
    return [(name, split) for split, ids in ids_by_split.items() for name in list(ids)[: counts[split]]]


def plans_over_splits(
    ids_by_split: Mapping[str, Sequence[str]], vocabulary: Vocabulary, specialty: str
) -> Callable[[int, int], Sequence[CasePlan]]:
    """The `plan` of a layout whose cases differ in name and split alone."""

    def plan(cases: int, seed: int) -> Sequence[CasePlan]:
        del seed  # official lists leave nothing to draw
        named = spread_over_splits(ids_by_split, cases)
        return [CasePlan(name, split, vocabulary, specialty) for name, split in named]

    return plan


def plain_vocabulary(
    phases: int, instruments: int = 6, verbs: int = 6, targets: int = 5, triplets: int = 24
) -> Vocabulary:
    """A vocabulary in which every instrument, verb and target takes part in some triplet."""
    every = [(i, v, t) for i in range(instruments) for v in range(verbs) for t in range(targets)]
    # A step coprime to the table's length visits rows of all instruments, verbs and targets.
    step = next(s for s in range(len(every) // triplets + verbs, len(every)) if np.gcd(s, len(every)) == 1)
    chosen = sorted({every[(k * step) % len(every)] for k in range(triplets)})
    return Vocabulary(phases, instruments, verbs, targets, tuple(chosen))
