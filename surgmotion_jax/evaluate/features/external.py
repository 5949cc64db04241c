"""Features that another encoder computed: a file a case, scored with the same heads and metrics as our own.

`DIR/CASE.npz` has `features` [N,D], or [N,K,D] for K tokens, and `time` [N], the seconds of the scored moments from the
start of the case. Heads of masks and depth read grids of patches: [N,h,w,D], or [N,L,h,w,D] of L layers. Files of
`surgmotion extract`, of either format, do as well where a head reads no grid: the time of a window is that of the last
frame that it shows, counted from the start of the stretch of video that was extracted. Letters: N moments, W rows of a
file, K tokens, L layers, h and w rows and columns of patches, D width.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence

import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.features.files import SUFFIXES, read_features
from surgmotion_jax.evaluate.features.windows_of_cases import Position

NEAR_S = 0.5  # a feature this near in time to a scored moment belongs to it


class ExternalFeatures:
    """Features from files. `kind` is what the head reads: pooled, tokens, or layers, [L,1,h,w,D] of each moment.

    Raises ValueError naming the file for one that is missing, another width, or a scored moment without a feature.
    """

    def __init__(self, folder: str, cases: Sequence[Case], kind: str) -> None:
        self._all = {case.id: _aligned(folder, case, kind) for case in cases}
        self._cases = [self._all[case.id] for case in cases]
        self.shape = tuple(self._cases[0].shape[1:])
        for case, rows in zip(cases, self._cases, strict=True):
            if rows.shape[1:] != self.shape:
                raise ValueError(
                    f"{folder}: features of {case.id} are {rows.shape[1:]}, those of {cases[0].id} {self.shape}; one "
                    "encoder gives features of one shape"
                )

    def of(self, cases: Sequence[Case]) -> ExternalFeatures:
        """Those of some of the cases."""
        part = copy.copy(self)
        part._cases = [self._all[case.id] for case in cases]
        return part

    def rows(self, positions: Sequence[Position]) -> np.ndarray:
        return np.stack([self._cases[p.case][p.row] for p in positions])


def _aligned(folder: str, case: Case, kind: str) -> np.ndarray:
    """[N,D], [N,K,D] or [N,L,1,h,w,D] float32: the rows of a case's file at its scored moments."""
    where, features_WxKxD, time_W = _read(folder, case.id)
    if features_WxKxD.ndim < 2 or time_W.shape != features_WxKxD.shape[:1] or not len(time_W):
        raise ValueError(
            f"{where}: features {features_WxKxD.shape}, time {time_W.shape}; give [N,D] or [N,K,D] and [N]"
        )
    _check_times(where, time_W)
    row_N = np.abs(time_W[None] - case.times_N[:, None]).argmin(1)
    gap_N = np.abs(time_W[row_N] - case.times_N)
    if gap_N.max() > NEAR_S:
        late = float(case.times_N[gap_N.argmax()])
        raise ValueError(
            f"{where}: no feature within {NEAR_S:g} s of the scored moment at {late:g} s; compute it: surgmotion "
            "extract has windows that end every second from the start of a case on with --moments=1, every half second "
            "with --moments=2"
        )
    rows = features_WxKxD[row_N].astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError(f"{where}: features that are not finite; compute them again")
    if kind == "layers":
        return _grids(where, rows)
    rows_NxKxD = rows.reshape(len(rows), -1, rows.shape[-1])
    return rows_NxKxD.mean(1) if kind == "pooled" else rows_NxKxD


def _grids(where: str, rows: np.ndarray) -> np.ndarray:
    """[N,L,1,h,w,D]: as our own encoder gives its layers, with one token step."""
    if rows.ndim not in (4, 5):
        raise ValueError(
            f"{where}: features {rows.shape}; masks and depth are read from grids of patches: give [N,h,w,D], or "
            "[N,L,h,w,D] for L layers"
        )
    return (rows if rows.ndim == 5 else rows[:, None])[:, :, None]


def _check_times(where: str, time_W: np.ndarray) -> None:
    """Raises ValueError for a time that is not a number: it would be near no moment, and far from none."""
    wrong_W = ~np.isfinite(time_W)
    if wrong_W.any():
        row = int(wrong_W.argmax())
        raise ValueError(f"{where}: time of row {row} is {time_W[row]}; give each row's seconds from the case's start")


def digest_of_files(folder: str, cases: Sequence[Case], known: dict[str, str]) -> str:
    """One sha256 of the names and contents of the cases' files, the same in any order.

    `known` holds what was read before, by case, and is added to: a file is read once. Raises ValueError for a case
    without a file.
    """
    for case in cases:
        if case.id not in known:
            path = _path(folder, case.id)
            known[case.id] = f"{case.id}{path.suffix} {storage.sha256_of(path)}"
    lines = sorted({known[case.id] for case in cases})
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _path(folder: str, case: str) -> epath.Path:
    """The file of a case, of either format."""
    names = [storage.as_path(folder) / f"{case}{suffix}" for suffix in SUFFIXES.values()]
    path = next((path for path in names if path.exists()), None)
    if path is None:
        raise ValueError(f"{names[0]}: no such file; --features needs a file for every case")
    return path


def _read(folder: str, case: str) -> tuple[str, np.ndarray, np.ndarray]:
    """(file, features [W,...], time [W])."""
    path = _path(folder, case)
    where = os.fspath(path)
    if where.endswith(SUFFIXES["npz"]):
        arrays = _plain(path)
        if "metadata" not in arrays:
            if not {"features", "time"} <= arrays.keys():
                raise ValueError(f"{where}: holds {', '.join(sorted(arrays))}; it must hold features and time")
            return where, arrays["features"], _seconds(arrays["time"], where)
    found = read_features(path)
    try:
        start_s = float(found.metadata["source"]["start_s"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{where}: its metadata have no source.start_s; extract the features again") from None
    return where, found.features, found.end_s - start_s


def _seconds(time: np.ndarray, where: str) -> np.ndarray:
    if time.dtype.kind not in "iuf":
        raise ValueError(f"{where}: time is of type {time.dtype}; give each row's seconds from the case's start")
    return time.astype(np.float64)


def _plain(path: epath.Path) -> dict[str, np.ndarray]:
    try:
        storage.check_inflation(path)
        with np.load(os.fspath(path), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # np.load raises whatever the damaged bytes lead it to
        raise ValueError(f"{os.fspath(path)}: not a sound npz ({error}); write it again") from error
