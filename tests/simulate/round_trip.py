"""What a reader must give back of a simulated set, computed from the simulator's own truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case, Contents, VideoFrames
from surgmotion_jax.benchmarks.catalogue import get
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.simulate.number_strip import read_number
from surgmotion_jax.simulate.truth import load_truth

FRAMES = 4  # of a window

# Sets whose cases are parts of a simulated operation, which is then their group.
OF_GROUP = ("ophnet2024", "avos")
SIZES = {"surgicalactions160": 32, "polypdiag": 8}
"""Cases, where three would be too few to have every class in every split."""

READ_BACK = (
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
)


def read(name: str, root: Path) -> Contents:
    benchmark = get(name)
    return benchmark.read(root, benchmark.protocols[0])


def start_of(contents: Contents, case: Case) -> float:
    """Where a case begins in the simulated operation, in seconds."""
    if isinstance(case.frames, VideoFrames):
        return case.frames.start_s
    return float(case.frames.paths[0].stem) if contents.benchmark == "ophnet2024" else 0.0


def truth_of(contents: Contents, case: Case, root: Path) -> dict[str, np.ndarray]:
    return load_truth(root, case.group if contents.benchmark in OF_GROUP else case.id)


def check_samples(contents: Contents, root: Path) -> dict[str, list[int]]:
    """Reads every sample of every split and holds its frames and label to the truth. Gives the scored frames of each
    simulated operation."""
    label = get(contents.benchmark).label
    scored: dict[str, list[int]] = {}
    for cases in contents.cases.values():
        for case in cases:
            truth, start = truth_of(contents, case, root), start_of(contents, case)
            fps = float(truth["fps"])
            samples = list(ClipReader(FRAMES, 1.0, dataset=contents.benchmark).case_samples(case))
            assert len(samples) == len(case.times_N)
            for time, sample in zip(case.times_N, samples, strict=True):
                shown_T = [read_number(frame) for frame in sample.video_TxHxWx3]
                back_T = [max(time - back, 0.0) for back in range(FRAMES - 1, -1, -1)]
                assert shown_T == [int(np.floor((start + t) * fps + 1e-6)) for t in back_T]
                np.testing.assert_array_equal(sample.valid_T, [time - b >= 0 for b in range(FRAMES - 1, -1, -1)])
                whole = int(truth["label"])
                assert sample.labels[label] == (whole if whole >= 0 else truth["phase_T"][shown_T[-1]])
                scored.setdefault(case.group if contents.benchmark in OF_GROUP else case.id, []).append(shown_T[-1])
    return scored
