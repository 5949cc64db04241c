"""A few test images with truth and prediction, kept for the report. Letters: K images, S side of the square."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.evaluate.features.cache import Features
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader, in_order
from surgmotion_jax.evaluate.heads.predictors import Predictor, spread
from surgmotion_jax.evaluate.tasks.families import Truths

PICTURES_FILE = "pictures.npz"


class Pictures(NamedTuple):
    """Images as the encoder saw them; masks as 0..1, depths in millimetres."""

    frame_KxSxSx3: np.ndarray
    truth_KxSxS: np.ndarray
    known_KxSxS: np.ndarray
    predicted_KxSxS: np.ndarray
    names_K: np.ndarray


def write_pictures(
    workdir: storage.PathLike,
    predictor: Predictor,
    candidate: int,
    cases: Sequence[Case],
    features: Features,
    truths: Truths,
    reader: WindowReader,
    most: int,
) -> None:
    """Writes up to `most` test images, evenly spread; none where `most` is 0."""
    positions = spread(in_order(cases), most) if most else ()
    if not positions:
        return
    truth = truths.rows(positions)
    predicted = np.concatenate([predictor(features.rows([p]))[candidate] for p in positions])
    frames = np.stack([reader.window(cases[p.case], p.row)[-1] for p in positions])
    names = np.array([f"{cases[p.case].id}, {cases[p.case].times_N[p.row]:g} s" for p in positions])
    pictures = Pictures(frames, truth["label"].astype(np.float32), truth["mask"], predicted.astype(np.float32), names)
    storage.write_bytes_atomic(storage.as_path(workdir) / PICTURES_FILE, to_npz(pictures._asdict()))


def read_pictures(workdir: storage.PathLike) -> Pictures | None:
    """What `write_pictures` wrote, None where there is nothing."""
    path = storage.as_path(workdir) / PICTURES_FILE
    if not path.exists():
        return None
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        return Pictures(**{name: archive[name] for name in Pictures._fields})
