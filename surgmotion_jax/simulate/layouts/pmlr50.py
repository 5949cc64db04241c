"""Writes simulated operations as PmLR50 lies on disk: an image a second, and pickles of phase numbers."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.pmlr50 import CLASSES, LABELS
from surgmotion_jax.simulate.layouts.files import write_images
from surgmotion_jax.simulate.layouts.layout import Layout, SimulatedCase, plain_vocabulary, plans_over_splits


def write_case(case: SimulatedCase, out: Path) -> None:
    write_images(case, 1.0, lambda k: out / "frames" / case.id / f"{k:08d}.jpg")


def write_index(cases: Sequence[SimulatedCase], out: Path) -> None:
    for split, file in LABELS.items():
        entries = {case.id: _entries(case) for case in cases if case.plan.split == split}
        storage.write_bytes_atomic(out / file, pickle.dumps(entries))


def _entries(case: SimulatedCase) -> list[dict[str, int]]:
    return [{"frame_id": k, "phase_gt": case.phase_at(k)} for k in range(case.moments(1.0))]


SPECIALTY = "laparoscopic"
NUMBERS = [f"{number:02d}" for number in range(1, 51)]
IDS = {"train": NUMBERS[:35], "val": NUMBERS[35:40], "test": NUMBERS[40:]}
PLAN = plans_over_splits(IDS, plain_vocabulary(len(CLASSES)), SPECIALTY)
LAYOUT = Layout("pmlr50", SPECIALTY, 1.0, PLAN, write_case, write_index)
