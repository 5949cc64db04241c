"""What a trained head says of each second of a recording: seconds of classes that are not wanted are left out.

The recordings were read before; what is judged are their stored frames, by the windows of the head's own evaluation,
one that ends at the beginning of each second. What was said of a unit is a file of its own, so that this step too goes
on where it was interrupted. Letters: S seconds of a part, T frames of a window, M pictures that were looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.corpus.engine import Engine
from surgmotion_jax.corpus.recording import Recording
from surgmotion_jax.corpus.stretches import Run, outside_of, runs
from surgmotion_jax.corpus.unit import CHUNK, Part, Unit, frame_files, read_unit
from surgmotion_jax.data.records.jpeg import decode_scaled
from surgmotion_jax.data.records.shard import Shard
from surgmotion_jax.evaluate.applied import Classifier, load_classifier
from surgmotion_jax.evaluate.features.window_frames import fit, scaled_size

Found: TypeAlias = tuple[Recording, str, Unit]
"""A recording with its content and unit."""


@dataclass(frozen=True)
class Judge:
    """A head, and the classes that are kept."""

    workdir: str  # of the evaluation that chose it
    kept: tuple[str, ...]
    checkpoint: str = ""  # its encoder; empty: where it was then

    def check(self) -> None:
        """Raises ValueError where the head cannot be had, or has no class of a name."""
        classes = self.classifier.classes
        for name in self.kept:
            if name not in classes:
                raise ValueError(
                    f"--keep-classes={name}: the head of {self.workdir} knows {', '.join(classes)}."
                    f"{did_you_mean(name, classes)}"
                )
        if not self.kept:
            raise ValueError(f"--keep={self.workdir} needs --keep-classes=A,B: of {', '.join(classes)}, those to keep")

    @property
    def classifier(self) -> Classifier:
        """Loaded once in a process."""
        return _loaded(self.workdir, self.checkpoint)

    @property
    def settings(self) -> dict[str, object]:
        """What a store says of it: plain JSON values."""
        return {"head": self.classifier.key, "kept": list(self.kept)}

    def judged(self, units: Sequence[Found], work: Path, engine: Engine) -> list[Found]:
        """The units, in a folder of work, with what the head says left out too."""
        folder = str(storage.ensure_writable(work / "judged"))
        keys = [unit.key for _, _, unit in units]
        engine.each("judged", partial(judge_unit, judge=self, units=str(work / "units"), judged=folder), keys)
        return [(recording, content, judged_unit(unit, self, folder)) for recording, content, unit in units]


@functools.lru_cache(maxsize=1)
def _loaded(workdir: str, checkpoint: str) -> Classifier:
    return load_classifier(workdir, checkpoint=checkpoint)


def judge_unit(key: str, judge: Judge, units: str, judged: str) -> None:
    """Writes the class of each second of each part of a unit, unless that was done."""
    done = _path(judged, key, judge)
    if not done.exists():
        unit = read_unit(units, key)
        classes = [classes_of(part, judge.classifier, units).tolist() for part in unit.parts]
        storage.write_text_atomic(done, json.dumps(classes))


def judged_unit(unit: Unit, judge: Judge, judged: str) -> Unit:
    """The unit with what the head says added to what is left out."""
    said = storage.read_json(_path(judged, unit.key, judge))
    parts = [_with(part, np.array(class_S), judge) for part, class_S in zip(unit.parts, said, strict=True)]
    return dataclasses.replace(unit, parts=tuple(parts))


def classes_of(part: Part, classifier: Classifier, units: str) -> np.ndarray:
    """The number of the likeliest class of each second, int [S]."""
    frames = StoredFrames(Path(units) / part.shard, part, classifier)
    second_S = np.arange(-(-part.frames // part.fps), dtype=np.float64)
    # A frame is on display until the next; half a frame is less than any rounding of times.
    row_SxT = np.floor(classifier.times(second_S) * part.fps + 1e-6).astype(np.int64).clip(0, part.frames - 1)
    batch = classifier.encoding.cache.batch
    shares = [classifier(frames.windows(row_SxT[start : start + batch])) for start in range(0, len(row_SxT), batch)]
    return np.concatenate(shares).argmax(1)


class StoredFrames:
    """The frames of a part as squares for an encoder. Those of one call are kept for the next."""

    def __init__(self, path: Path, part: Part, classifier: Classifier) -> None:
        self._shard, self._data, self._stored = Shard(path), classifier.data, (part.height, part.width)
        self._scaled = scaled_size(self._stored, self._data.size, self._data.resize)
        self._held: dict[int, np.ndarray] = {}

    def windows(self, row_BxT: np.ndarray) -> np.ndarray:
        """uint8 [B,T,S,S,3] of frames by number."""
        wanted = np.unique(row_BxT).tolist()
        missing = [row for row in wanted if row not in self._held]
        self._held = {row: self._held[row] for row in wanted if row in self._held}
        for number, rows in groupby(missing, key=lambda row: row // CHUNK):
            files = frame_files(self._shard, number)
            self._held.update((row, self._square(files[row % CHUNK])) for row in rows)
        return np.stack([np.stack([self._held[row] for row in row_T]) for row_T in row_BxT.tolist()])

    def _square(self, file: bytes) -> np.ndarray:
        return fit(decode_scaled(file, self._stored, self._scaled)[None], self._data.size)[0]


def _with(part: Part, class_S: np.ndarray, judge: Judge) -> Part:
    added = list(_runs(part, class_S, judge.classifier.classes, judge.kept))
    return dataclasses.replace(part, left_out=tuple(sorted([*part.left_out, *added])))


def _runs(part: Part, class_S: np.ndarray, classes: Sequence[str], kept: Sequence[str]) -> Iterator[Run]:
    """Pictures of classes that are not kept, without those that are left out already."""
    class_M = class_S[(np.arange(part.pictures) / part.rate).astype(int).clip(0, len(class_S) - 1)]
    free_M = outside_of(part.left_out, part.pictures)
    for number, name in enumerate(classes):
        if name not in kept:
            yield from (Run(start, stop, f"judged {name}") for start, stop in runs(free_M & (class_M == number)))


def _path(judged: str, key: str, judge: Judge) -> Path:
    return Path(judged) / f"{key}-{judge.classifier.key}.json"
