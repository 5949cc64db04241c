"""The truth of a simulated case as a file: what the script decided, and what only drawing tells.

Letters: T frames, M instrument slots, S whole seconds, H rows, W columns, R rows of the triplet table.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.simulate.case import Frame
from surgmotion_jax.simulate.layouts.layout import SimulatedCase


class Recorder:
    """Watches the frames of one case go by and keeps what is not in its script."""

    def __init__(self, dense: bool) -> None:
        """`dense` also keeps depth, masks and flow of one frame a second."""
        self._dense = dense
        self._tips: dict[int, np.ndarray] = {}
        self._maps: dict[int, Frame] = {}

    def watch(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames."""
        self._tips, self._maps = {}, {}
        for frame in frames:
            self._tips[frame.number] = frame.tip_Mx2
            if self._dense:
                self._maps[frame.number] = frame
            yield frame

    def save(self, case: SimulatedCase, path: Path) -> None:
        """Writes `path`, an .npz of plain arrays: the names below, read with `numpy.load`."""
        script = case.script
        slots = len(script.port_Mx3)
        tip_TxMx2 = np.full((script.frames, slots, 2), np.nan, np.float32)
        for number, tip_Mx2 in self._tips.items():
            tip_TxMx2[number] = tip_Mx2
        arrays: dict[str, Any] = {
            "fps": np.float64(case.fps),
            "label": np.int64(-1 if case.plan.label is None else case.plan.label),  # of the whole case
            "lesion": np.bool_(script.config.lesion),
            "nuisance": np.float64(script.config.nuisance),  # one strength for the whole case
            "skill": np.float64(script.skill),
            "grs_6": script.grs_6,
            "phase_T": script.phase_T,
            "triplet_TxMx3": script.triplet_TxMx3,
            "instrument_TxM": np.stack([script.instruments_at(number) for number in range(script.frames)]),
            "triplets_Rx3": np.array(script.vocabulary.triplets),
            "visible_TxM": script.visible_TxM,
            "tip_TxMx3": script.tip_TxMx3,  # mm
            "tip_TxMx2": tip_TxMx2,  # pixels; NaN where out of view, or where the layout left the frame out
            "camera_position_Tx3": script.camera_position_Tx3,  # mm
            "camera_angles_Tx3": script.camera_angles_Tx3,  # radians
            "out_of_body_T": script.out_of_body_T,
            **self._dense_arrays(case),
        }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        storage.write_bytes_atomic(path, file.getvalue())

    def _dense_arrays(self, case: SimulatedCase) -> dict[str, np.ndarray]:
        kept = [self._maps[n] for n in (case.frame_at(s) for s in range(case.moments(1.0))) if n in self._maps]
        if not kept:
            return {}
        shape = kept[0].depth_HxW.shape
        still, seen = np.zeros((*shape, 2), np.float32), np.ones(shape, bool)
        return {
            "number_S": np.array([frame.number for frame in kept]),
            "depth_SxHxW": np.stack([frame.depth_HxW for frame in kept]),
            "instrument_SxHxW": np.stack([frame.instrument_HxW for frame in kept]),
            "lesion_SxHxW": np.stack([frame.lesion_HxW for frame in kept]),
            "fov_SxHxW": np.stack([frame.fov_HxW for frame in kept]),
            "flow_SxHxWx2": np.stack([still if f.flow_HxWx2 is None else f.flow_HxWx2 for f in kept]),
            "occluded_SxHxW": np.stack([seen if f.occluded_HxW is None else f.occluded_HxW for f in kept]),
        }


def truth_path(root: Path, case: str) -> Path:
    """Where the truth of a case lies in a simulated data set. Case names may hold folders."""
    return root / "truth" / f"{case}.npz"


def load_truth(root: Path, case: str) -> dict[str, np.ndarray]:
    """Arrays of one case. Raises FileNotFoundError where the set has no such case."""
    with np.load(truth_path(root, case), allow_pickle=False) as file:
        return dict(file)
