"""Features of the scored moments of cases: computed once, kept on disk a file a case, read in any order.

A folder holds features of one encoder and one way of making windows, and is named by their digest. A case's file
appears when it is whole, so an interrupted run goes on where it was, and no file is ever half a case. Which moments are
encoded together depends on the whole list of cases and not on what is missing of it, since a row may round by its
place: an interrupted run ends with the bytes of one that was not.

Letters: B moments, N moments of a case, t, h, w token steps, rows, columns, L layers, D width.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import Case, ImageFrames
from surgmotion_jax.evaluate.config import CacheConfig, DataConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features.windows_of_cases import (
    Position,
    WindowBatch,
    WindowReader,
    gather,
    prefetched,
    stream,
)
from surgmotion_jax.models.architecture import architecture

KEY_FILE = "key.json"
KINDS = ("pooled", "tokens", "layers")

Report = Callable[[str, int, int], None]
"""Told the case at work, moments done and moments in all."""


class Features(Protocol):
    """Features of the moments of a list of cases."""

    shape: tuple[int, ...]  # of one moment

    def rows(self, positions: Sequence[Position]) -> np.ndarray:
        """[B, *shape] of the moments asked for, in that order."""


class Encodes(Protocol):
    """Turns windows into features."""

    cache: CacheConfig
    reader: WindowReader
    shape: tuple[int, ...]  # of one moment

    @property
    def dtype(self) -> str:
        """Of the features as they are stored."""

    @property
    def key(self) -> dict[str, object]:
        """Plain JSON values, equal where the features are."""

    def __call__(self, batch: WindowBatch) -> np.ndarray:
        """[B, *shape] of the real rows of a batch."""


@dataclass(frozen=True)
class Wanted:
    """What of the encoder's output a head reads."""

    kind: str  # pooled [D], tokens [t,h,w,D], layers [L,t,h,w,D]
    layers: tuple[int, ...] = ()  # for layers: which blocks

    def shape(self, encoder: FrozenEncoder, data: DataConfig) -> tuple[int, ...]:
        """Of one moment. Raises ValueError for sizes or layers that the encoder has not."""
        grid, width = encoder.grid(data.frames, data.size, data.size), encoder.width
        encoder.check_layers(self.layers)
        shapes = {"pooled": (width,), "tokens": (*grid, width), "layers": (len(self.layers), *grid, width)}
        return shapes[self.kind]


class Encoding:
    """Turns windows into the features that are wanted, and counts how many windows it encoded."""

    def __init__(self, encoder: FrozenEncoder, wanted: Wanted, data: DataConfig, cache: CacheConfig) -> None:
        self.encoder, self.wanted, self.cache = encoder, wanted, cache
        self.reader = WindowReader(data)
        self.shape, self.dtype = wanted.shape(encoder, data), cache.dtype
        self.encoded = 0

    def __call__(self, batch: WindowBatch) -> np.ndarray:
        """[B, *shape] of the real rows of a batch."""
        real = len(batch.positions)
        self.encoded += real
        if self.wanted.kind == "layers":
            layers_LxB = np.asarray(self.encoder.with_layers(batch.video_BxTxSxSx3, self.wanted.layers).layers)
            return np.moveaxis(layers_LxB, 0, 1)[:real].astype(self.dtype)
        tokens_BxtxhxwxD = self.encoder(batch.video_BxTxSxSx3)
        if self.wanted.kind == "pooled":
            tokens_BxtxhxwxD = tokens_BxtxhxwxD.mean((1, 2, 3))
        return np.asarray(tokens_BxtxhxwxD)[:real].astype(self.dtype)

    @property
    def key(self) -> dict[str, object]:
        """Plain JSON values, equal where the features are."""
        config, data = self.encoder.config, self.reader.data
        return {
            "encoder": self.encoder.origin.digest,
            "architecture": architecture(config),
            "compute": {"dtype": config.dtype, "attention": config.attention},
            "windows": {name: getattr(data, name) for name in ("recipe", "frames", "fps", "size", "resize")},
            "features": self.wanted.kind,
            "layers": list(self.wanted.layers),
            "stored": self.dtype,
            "batch": self.cache.batch,  # compilers round by the size of the program
        }


def computed_with(rows: np.ndarray) -> np.ndarray:
    """Features in float32, pixels as they are."""
    return rows if rows.dtype == np.uint8 else rows.astype(np.float32)


class StoredFeatures:
    """Features in files, mapped into memory."""

    def __init__(self, paths: Sequence[os.PathLike[str]]) -> None:
        self._cases = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        self.shape = tuple(self._cases[0].shape[1:])

    def rows(self, positions: Sequence[Position]) -> np.ndarray:
        return computed_with(np.stack([self._cases[p.case][p.row] for p in positions]))


class ComputedFeatures:
    """Features computed whenever they are asked for: slow, and takes no disk."""

    def __init__(self, cases: Sequence[Case], encoding: Encodes) -> None:
        self._cases, self._encoding, self.shape = cases, encoding, encoding.shape

    def rows(self, positions: Sequence[Position]) -> np.ndarray:
        size = min(self._encoding.cache.batch, len(positions))  # requests have a few sizes: a program for each
        chunks = [positions[start : start + size] for start in range(0, len(positions), size)]
        windows = (gather(self._cases, self._encoding.reader, chunk, size) for chunk in chunks)
        return computed_with(np.concatenate([self._encoding(batch) for batch in windows]))


def features_of(
    cases: Sequence[Case], encoding: Encodes, folder: storage.PathLike, report: Report = lambda *_: None
) -> Features:
    """Features of every scored moment of `cases`, from the folder as far as it has them.

    Raises ValueError for frames that cannot be read, a disk without room for what is missing, or a file of the folder
    that is not what it should be.
    """
    if encoding.cache.kind == "none":
        return ComputedFeatures(cases, encoding)
    place = cache_folder(folder, encoding.key)
    paths = [place / file_name(case) for case in cases]
    missing = {number: path for number, path in enumerate(paths) if not path.exists()}
    check_room(cases, encoding, folder)
    _compute(cases, missing, encoding, report)
    for case, path in zip(cases, paths, strict=True):
        _check(path, (len(case.times_N), *encoding.shape))
    return StoredFeatures(paths)


def cache_folder(folder: storage.PathLike, key: Mapping[str, object]) -> pathlib.Path:
    """The folder of features of this key, made where it is not there yet. It must be local: files are mapped."""
    place = _place(folder, key)
    if not (place / KEY_FILE).exists():
        storage.write_text_atomic(place / KEY_FILE, _key_text(key) + "\n")
    return place


def _place(folder: storage.PathLike, key: Mapping[str, object]) -> pathlib.Path:
    if not storage.is_local(folder):
        raise ValueError(
            f"{os.fspath(folder)}: features are kept on a local disk; use cache.kind=none, or a local path"
        )
    return pathlib.Path(storage.as_path(folder)) / hashlib.sha256(_key_text(key).encode()).hexdigest()[:16]


def _key_text(key: Mapping[str, object]) -> str:
    return json.dumps(key, sort_keys=True, indent=1)


def file_name(case: Case) -> str:
    """Of a case's features: its id, and a digest of the moments and of the frames' names and sizes."""
    frames = case.frames
    paths = list(frames.paths) if isinstance(frames, ImageFrames) else [frames.path]
    stretch = [] if isinstance(frames, ImageFrames) else [repr(frames.start_s), repr(frames.end_s)]
    sizes = [f"{path.name}:{path.stat().st_size if path.is_file() else 0}" for path in paths]
    text = "\n".join([*sizes, *stretch, *map(repr, case.times_N.tolist())])
    return f"{quote(case.id, safe='')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.npy"


def bytes_needed(cases: Sequence[Case], encoding: Encodes) -> int:
    """Of the files of these cases."""
    moments = sum(len(case.times_N) for case in cases)
    return moments * int(np.prod(encoding.shape)) * np.dtype(encoding.dtype).itemsize


def check_room(cases: Sequence[Case], encoding: Encodes, folder: storage.PathLike) -> None:
    """Raises ValueError where the disk has less room than the files of these cases that are missing.

    Writes nothing, so that it can be asked before anything is computed: a disk is full hours later.
    """
    if encoding.cache.kind == "none":
        return
    place = _place(folder, encoding.key)
    needed = bytes_needed([case for case in cases if not (place / file_name(case)).exists()], encoding)
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(
            f"{place}: the features that are missing take {needed} bytes, {free} are free there; use --cache=none, "
            "--cache=pooled with a head that reads a vector a moment (linear, knn, temporal), "
            "--config.cache.dtype=float16, or another disk, each with a --workdir of its own"
        )


def _compute(cases: Sequence[Case], missing: Mapping[int, pathlib.Path], encoding: Encodes, report: Report) -> None:
    """Writes the files of the cases numbered in `missing`, decoding the next windows while some are encoded.

    Moments of finished cases that share a batch with these are encoded again, and dropped.
    """
    done, total = 0, sum(len(cases[number].times_N) for number in missing)
    writer: _CaseWriter | None = None
    try:
        for batch in stream(cases, encoding.reader, encoding.cache.batch, encoding.cache.ahead, missing):
            for (number, _), row in zip(batch.positions, encoding(batch), strict=True):
                if number not in missing:
                    continue
                if writer is None:
                    writer = _CaseWriter(missing[number], len(cases[number].times_N), row)
                assert writer.path == missing[number], "moments of a case are not together"
                done += 1
                if writer.add(row):
                    writer = None
                    report(cases[number].id, done, total)
    finally:
        if writer is not None:
            writer.discard()


class _CaseWriter:
    """Fills the file of a case row by row, beside its place, and moves it there with the last row."""

    def __init__(self, path: pathlib.Path, moments: int, row: np.ndarray) -> None:
        self.path = path
        self._draft = storage.Draft(path)
        self._array = np.lib.format.open_memmap(
            self._draft.temporary, mode="w+", dtype=row.dtype, shape=(moments, *row.shape)
        )
        self._filled = 0

    def add(self, row: np.ndarray) -> bool:
        """Appends a row; True when the file is complete and in place."""
        self._array[self._filled] = row
        self._filled += 1
        if self._filled < len(self._array):
            return False
        self._array.flush()
        del self._array
        self._draft.publish()
        return True

    def discard(self) -> None:
        self._draft.discard()


def _check(path: pathlib.Path, shape: tuple[int, ...]) -> None:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: not a sound file of features ({error}); delete it and repeat the command") from error
    if found != shape:
        raise ValueError(f"{path}: holds {found}, expected {shape}; delete it and repeat the command")


def ordered(
    features: Features, chunks: Sequence[Sequence[Position]], ahead: int = 2
) -> Generator[tuple[Sequence[Position], np.ndarray], None, None]:
    """(positions, features) of each chunk in turn, read ahead in a thread."""
    with contextlib.closing(prefetched(((chunk, features.rows(chunk)) for chunk in chunks), ahead)) as found:
        yield from found
