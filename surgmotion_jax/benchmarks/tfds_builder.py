"""Writes a prepared benchmark as a TFDS folder of ArrayRecords, without TensorFlow.

A record is a `data.segment.Segment`. Images are kept as the files they are, video frames are encoded; what a case has
at a moment (labels, mask, depth) lies in the record on display then. Letters: T frames, N moments.
"""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, ImageFrames
from surgmotion_jax.benchmarks.dense import read_depth, read_mask
from surgmotion_jax.benchmarks.depth_files import encode_depth
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.benchmarks.stored import read_file
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data.decode import read_frames
from surgmotion_jax.data.media import Size, UnreadableVideo
from surgmotion_jax.data.segment import Segment

VERSION = "1.0.0"


@dataclass(frozen=True)
class BuildConfig:
    """How frames are stored."""

    fps: float | None = 1.0  # frames kept per second, in step with the scored moments; None keeps every frame
    size: Size = None  # (height, width), or short side; None keeps the stored size
    quality: int | None = 90  # of JPEG; None stores frames without loss, as PNG
    frames_per_record: int = 32

    def __post_init__(self) -> None:
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise ValueError(
                f"fps is {self.fps}; it must be a positive number, or 0 on the command line for all frames"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}; it must lie in [1, 100]")
        if self.frames_per_record < 1:
            raise ValueError(f"frames_per_record is {self.frames_per_record}; it must be at least 1")


@dataclass(frozen=True)
class Built:
    """What was written: `folder` is what `tfds:FOLDER` names; counts of (cases, records) by split."""

    folder: Path
    counts: dict[str, tuple[int, int]]


def build(benchmark: Benchmark, contents: Contents, out: Path, config: BuildConfig) -> Built:
    """Writes every case of `contents` below `out` and returns where.

    Raises:
        ValueError: the folder exists already, nothing to write, or label columns that differ between cases.
        BenchmarkError: a frame, mask or depth map that cannot be read; nothing is left behind.
    """
    target = out / benchmark.name / VERSION
    if target.exists():
        raise ValueError(f"{target} exists already; remove it, or choose another --out")
    storage.ensure_writable(out)
    cases = {split: contents.cases[split] for split in SPLITS if contents.cases.get(split)}
    if not cases:
        raise ValueError(f"{benchmark.name}: no case in any split; check --root")
    reader = ClipReader(frames=1, size=config.size, dataset=benchmark.name)
    metadata: dict[str, Any] = {
        "benchmark": benchmark.name,
        "protocol": contents.protocol,
        "classes": {name: list(classes) for name, classes in contents.classes.items()},
        "absent": list(contents.absent),
        "records": {split: [] for split in cases},
    }
    generators = {split: _examples(cases[split], reader, config, metadata["records"][split]) for split in cases}
    _write(benchmark, _label_features(cases), generators, metadata, out)
    return Built(target, {split: (len(cases[split]), len(metadata["records"][split])) for split in cases})


def segments(case: Case, reader: ClipReader, config: BuildConfig) -> Iterator[Segment]:
    """The records of a case in order."""
    time_us_T = _frame_times(case, reader, config)
    moment_us_N = np.round(case.times_N * 1e6).astype(np.int64)
    chunks = range(0, len(time_us_T), config.frames_per_record)
    for start in chunks:
        record_us_T = time_us_T[start : start + config.frames_per_record]
        following = start + config.frames_per_record
        until = time_us_T[following] if following < len(time_us_T) else np.iinfo(np.int64).max
        rows = np.flatnonzero((moment_us_N >= record_us_T[0]) & (moment_us_N < until)).tolist()
        yield Segment(
            dataset=reader.dataset,
            case=case.id,
            group=case.group,
            end_us=round(reader.duration(case) * 1e6),
            time_us_T=record_us_T,
            frames=_frames(case, record_us_T, reader, config),
            moment_us_N=moment_us_N[rows],
            labels={name: _stored_label(case, name, values[rows]) for name, values in case.labels.items()},
            masks=tuple(_mask(case, row, reader) for row in rows) if case.masks else (),
            depths=tuple(_depth(case, row, reader) for row in rows) if case.depths else (),
        )


def _examples(
    cases: tuple[Case, ...], reader: ClipReader, config: BuildConfig, records: list[list[Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Keyed records; what lies where is noted in `records`, which is written after them."""
    for case in cases:
        for segment in segments(case, reader, config):
            records.append([segment.case, int(segment.time_us_T[0])])
            yield len(records), segment.example()


def _frame_times(case: Case, reader: ClipReader, config: BuildConfig) -> np.ndarray:
    """Microseconds of the frames to keep, int64 [T]: those of every window at `config.fps` that ends at a moment."""
    info, duration_s = reader.info(case), reader.duration(case)
    rate = config.fps or info.fps
    # Moments out of step with the second have grids of their own.
    phases = {0.0, *np.round(np.mod(case.times_N, 1 / rate), 6).tolist()} if config.fps else {0.0}
    grids = [phase + np.arange(math.ceil((duration_s - phase) * rate - 1e-6)) / rate for phase in phases]
    time_T = np.unique(np.round(np.concatenate([*grids, case.times_N]), 6))
    time_T = time_T[time_T < duration_s - 1e-6] if duration_s > 1e-6 else time_T[:1]
    time_us_T = np.round(time_T * 1e6).astype(np.int64)
    if isinstance(case.frames, ImageFrames):
        # An image that is on display at several of the times is kept once.
        image_T = np.minimum([info.tick(t) for t in time_T], len(case.frames.paths) - 1)
        time_us_T = time_us_T[np.unique(image_T, return_index=True)[1]]
    return time_us_T


def _frames(case: Case, time_us_T: np.ndarray, reader: ClipReader, config: BuildConfig) -> tuple[bytes, ...]:
    info, time_T = reader.info(case), time_us_T / 1e6
    if isinstance(case.frames, ImageFrames) and config.size is None:
        paths = [case.frames.paths[min(info.tick(t), len(case.frames.paths) - 1)] for t in time_T]
        if all(path.suffix.lower() in (".png", ".jpg", ".jpeg") for path in paths):
            return tuple(read_file(path) for path in paths)
    start = 0.0 if isinstance(case.frames, ImageFrames) else case.frames.start_s
    try:
        video_TxHxWx3 = read_frames(info.path, (start + time_T).tolist(), config.size, info=info, limits=reader.limits)
    except UnreadableVideo as error:
        raise BenchmarkError(error.path, error.reason, "frames that can be decoded", "get the file again") from error
    return tuple(_encode(frame, config.quality) for frame in video_TxHxWx3)


def _encode(picture: np.ndarray, quality: int | None) -> bytes:
    file = io.BytesIO()
    if quality is None:
        Image.fromarray(picture).save(file, "PNG", compress_level=3)
    else:
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _stored_label(case: Case, name: str, values: np.ndarray) -> np.ndarray:
    """As int64 or float32, which are what a record keeps. Raises BenchmarkError for a number that float32 changes."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    stored = values.astype(np.float32)
    if not np.array_equal(stored.astype(np.float64), values):
        found, asks = f"a {name} that needs 64 bits", "scores that 32-bit floats hold"
        raise BenchmarkError(case.annotation or case.id, found, asks, "round the scores")
    return stored


def _mask(case: Case, row: int, reader: ClipReader) -> bytes:
    info = reader.info(case)
    mask = read_mask(case.masks[row], (info.height, info.width), info.output_size(reader.size), reader.limits)
    return _encode(mask, None)


def _depth(case: Case, row: int, reader: ClipReader) -> bytes:
    info, wanted = reader.info(case), reader.info(case).output_size(reader.size)
    stored = (info.height, info.width)
    return encode_depth(read_depth(case.depths[row], case.depth_scale, stored, wanted, reader.limits))


def _label_features(cases: dict[str, tuple[Case, ...]]) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """(shape, dtype) of each label, the same in every case."""
    found: dict[str, tuple[tuple[int | None, ...], str]] = {}
    for case in (case for members in cases.values() for case in members):
        mine: dict[str, tuple[tuple[int | None, ...], str]] = {
            name: ((None, *values.shape[1:]), "int64" if values.dtype.kind in "iub" else "float32")
            for name, values in case.labels.items()
        }
        if (found or mine) != mine:
            raise ValueError(f"case {case.id!r} has the labels {mine}, the case before it {found}; all must be alike")
        found = mine
    return found


def _write(
    benchmark: Benchmark,
    labels: dict[str, tuple[tuple[int | None, ...], str]],
    generators: dict[str, Iterator[tuple[int, dict[str, Any]]]],
    metadata: dict[str, Any],
    out: Path,
) -> None:
    # Imported here: it takes half a second, and only this function needs it.
    import tensorflow_datasets as tfds

    tensor, text, whole = tfds.features.Tensor, tfds.features.Text, tfds.features.Scalar
    features = {
        **{name: whole(np.int64) for name in ("schema_version", "end_us")},
        **{name: text() for name in ("dataset", "case", "group")},
        **{name: tensor(shape=(None,), dtype=np.int64) for name in ("time_us", "moment_us")},
        **{name: tensor(shape=(None,), dtype=np.object_) for name in ("frames", "masks", "depths")},
        "labels": {name: tensor(shape=shape, dtype=np.dtype(dtype).type) for name, (shape, dtype) in labels.items()},
    }

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """Takes the records from outside: TFDS's own ad-hoc builder asks for TensorFlow."""

        VERSION = tfds.core.Version(VERSION)
        name = benchmark.name

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{benchmark.title}, {metadata['protocol']}: segments of encoded frames with annotation.",
                features=tfds.features.FeaturesDict(features),
                metadata=tfds.core.MetadataDict(metadata),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager
            return generators

        def _generate_examples(self) -> Any:
            raise AssertionError("records come from the split generators")

    tfds.disable_progress_bar()
    # TFDS prints as it goes, and makes a folder for downloads although there are none.
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as downloads:
        Builder(data_dir=out, file_format="array_record").download_and_prepare(download_dir=downloads)
