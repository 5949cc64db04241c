"""Files of features: one a video, as npz or ArrayRecord, written whole or not at all, the same bytes every time.

An npz holds the arrays of `VideoFeatures` and its metadata as JSON text. An ArrayRecord holds the metadata as its
first record, then a record a window, each the npz of that window: it is written as the windows come, so that a long
video never lies in memory. Letters: W windows, t token steps of a window.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checks import one_of

SCHEMA_VERSION = 2
SUFFIXES = {"npz": ".npz", "array_record": ".array_record"}
REQUIRED = ("features", "start_s", "end_s", "time_s", "valid")
Metadata = dict[str, Any]  # plain JSON values

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@dataclass(frozen=True)
class VideoFeatures:
    """Features of one video. The first axis of every array is that of the windows."""

    features: np.ndarray  # [W, D], [W, t, D] or [W, t, h, w, D], by how they were pooled
    layers: dict[int, np.ndarray]  # the same for intermediate blocks, by number
    start_s: np.ndarray  # float64 [W]: where each window starts, seconds from the first frame of the video
    end_s: np.ndarray  # float64 [W]: the time of the last frame that it shows
    time_s: np.ndarray  # float64 [W, t]: mean time at which the frames of each token step are due
    valid: np.ndarray  # bool [W, t]: False where a step repeats the last frame past the end, or the first before it
    metadata: Metadata  # checkpoint, settings, source, versions

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The arrays by the names that they have in files."""
        layers = {f"layer_{number:02d}": array for number, array in sorted(self.layers.items())}
        return {"features": self.features, **layers, **{name: getattr(self, name) for name in REQUIRED[1:]}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], metadata: Metadata, where: str) -> VideoFeatures:
        """Reads `to_arrays`'s value. Raises ValueError, naming `where`, for a missing array."""
        missing = [name for name in REQUIRED if name not in arrays]
        if missing:
            raise ValueError(f"{where}: no array {', '.join(missing)}; this is not a file of features")
        layers = {int(name.removeprefix("layer_")): arrays[name] for name in arrays if name.startswith("layer_")}
        times = {name: arrays[name] for name in REQUIRED[1:]}
        return cls(features=arrays["features"], layers=layers, metadata=metadata, **times)


def read_features(path: storage.PathLike) -> VideoFeatures:
    """Reads a file that `surgmotion extract` wrote, of either format.

    Raises ValueError for another kind of file, another schema version or damage, each naming the file.
    """
    where = os.fspath(path)
    if where.endswith(SUFFIXES["array_record"]):
        metadata, windows = _read_records(path)
        arrays = {name: np.concatenate([window[name] for window in windows]) for name in windows[0]}
    else:
        arrays = _from_npz(storage.as_path(path).read_bytes(), where)
        text = arrays.pop("metadata", None)
        if text is None:
            raise ValueError(f"{where}: no metadata; this is not a file of features")
        metadata = json.loads(str(text))
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"{where}: schema_version {metadata.get('schema_version')!r}, this version reads {SCHEMA_VERSION}; extract "
            "the features again, or read them with the version that wrote them"
        )
    return VideoFeatures.from_arrays(arrays, metadata, where)


class FeatureWriter(Protocol):
    """Takes the windows of a video, a few at a time and in order; left without an exception, publishes the file."""

    def __enter__(self) -> FeatureWriter: ...

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Appends windows: `VideoFeatures.to_arrays` of some."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def feature_writer(path: storage.PathLike, form: str, metadata: Mapping[str, object]) -> FeatureWriter:
    """A writer of `form`, one of `SUFFIXES`. Raises ValueError for another, or for ArrayRecord on a remote path."""
    one_of("format", form, tuple(SUFFIXES))
    if form == "npz":
        return _NpzWriter(path, metadata)
    return _RecordWriter(path, metadata)


def encode_metadata(metadata: Mapping[str, object]) -> str:
    """JSON text, the same for equal values."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **metadata}, sort_keys=True, allow_nan=False)


def to_npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an npz, uncompressed. NumPy's own would hold the time of writing."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), member.getbuffer())
    return out.getvalue()


def _from_npz(data: bytes, where: str) -> dict[str, np.ndarray]:
    try:
        storage.check_inflation(io.BytesIO(data))
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError, MemoryError) as error:
        raise ValueError(f"{where}: not a sound npz ({error}); extract the features again") from error


class _NpzWriter:
    def __init__(self, path: storage.PathLike, metadata: Mapping[str, object]) -> None:
        self._path, self._metadata = path, np.array(encode_metadata(metadata))
        self._parts: list[dict[str, np.ndarray]] = []

    def __enter__(self) -> _NpzWriter:
        return self

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._parts.append(dict(arrays))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            whole = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
            storage.write_bytes_atomic(self._path, to_npz({**whole, "metadata": self._metadata}))


class _RecordWriter:
    def __init__(self, path: storage.PathLike, metadata: Mapping[str, object]) -> None:
        if not storage.is_local(path):
            raise ValueError(f"{os.fspath(path)}: ArrayRecord files are written locally; use npz, or copy them there")
        self._draft = storage.Draft(path)
        self._metadata = encode_metadata(metadata)

    def __enter__(self) -> _RecordWriter:
        from array_record.python.array_record_module import ArrayRecordWriter

        self._writer = ArrayRecordWriter(str(self._draft.__enter__()), "group_size:1,uncompressed")
        self._writer.write(self._metadata.encode())
        return self

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        for window in range(len(arrays["features"])):
            self._writer.write(to_npz({name: array[window : window + 1] for name, array in arrays.items()}))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._draft.publish()
        finally:
            self._draft.discard()


def _read_records(path: storage.PathLike) -> tuple[Metadata, list[dict[str, np.ndarray]]]:
    from array_record.python.array_record_module import ArrayRecordReader

    where = os.fspath(path)
    storage.as_path(path).stat()  # FileNotFoundError with the system's words
    try:
        reader = ArrayRecordReader(str(storage.as_path(path)))
        records = reader.read_all()
        reader.close()
        metadata = json.loads(records[0])
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"{where}: not a sound file of features ({error}); extract the features again") from error
    if len(records) < 2 or not isinstance(metadata, dict):
        raise ValueError(f"{where}: no window in it; this is not a file of features")
    return metadata, [_from_npz(record, where) for record in records[1:]]
