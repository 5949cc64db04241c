"""A benchmark that was built into a TFDS folder, read back as cases: the same samples as from the data set's files.

Frames, masks and depth maps stay in the folder under `tfds:` locations. Letters: N scored moments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgmotion_jax.benchmarks.benchmark import SPLITS, Benchmark, Case, Contents, VideoFrames
from surgmotion_jax.benchmarks.errors import BenchmarkError
from surgmotion_jax.data.segment import Segment
from surgmotion_jax.data.tfds_source import Archive, Location, annotation_path, is_tfds, open_archive, parse_location

_FIX = "build it with surgmotion data build"


def read_contents(benchmark: Benchmark, root: str | Path, protocol: str) -> Contents:
    """What lies at a root: a data set's own folder, or `tfds:FOLDER` where one was built.

    Reading the annotation of a TFDS folder goes once through all its records.

    Raises:
        BenchmarkError: for anything that is not as the layout says; for a TFDS folder of another benchmark or protocol.
    """
    if not is_tfds(str(root)):
        return benchmark.read(Path(root), protocol)
    folder = parse_location(str(root)).folder
    try:
        archive = open_archive(folder)
        found, asked = (archive.metadata.get(key) for key in ("benchmark", "protocol")), (benchmark.name, protocol)
        if (stored := tuple(found)) != asked:
            raise BenchmarkError(folder, "{} under {}".format(*stored), "{} under {}".format(*asked), _FIX)
        cases = {split: _cases(archive, split) for split in SPLITS if split in archive.splits}
    except BenchmarkError:
        raise
    except ValueError as error:
        raise BenchmarkError(folder, str(error), "a TFDS folder of clips", _FIX) from error
    classes = {name: tuple(names) for name, names in archive.metadata.get("classes", {}).items()}
    cases |= {split: () for split in SPLITS if split not in cases}
    return Contents(benchmark.name, protocol, classes, cases, tuple(archive.metadata.get("absent", ())))


def _cases(archive: Archive, split: str) -> tuple[Case, ...]:
    found = []
    for case, records in archive.cases(split).items():
        segments = [_without_frames(archive.segment(split, record)) for _, record in records]
        found.append(_case(Location(archive.folder, split, case), segments))
    return tuple(found)


def _without_frames(segment: Segment) -> Segment:
    """What is kept of a record: its images are read again when they are needed."""
    return Segment(
        segment.dataset,
        segment.case,
        segment.group,
        segment.end_us,
        segment.time_us_T,
        (),
        segment.moment_us_N,
        segment.labels,
        tuple(b"" for _ in segment.masks),
        tuple(b"" for _ in segment.depths),
    )


def _case(location: Location, segments: list[Segment]) -> Case:
    moment_us_N = np.concatenate([segment.moment_us_N for segment in segments])
    labels = {name: np.concatenate([segment.labels[name] for segment in segments]) for name in segments[0].labels}
    return Case(
        id=location.case,
        group=segments[0].group,
        frames=VideoFrames(Path(str(location))),
        times_N=moment_us_N / 1e6,
        labels={name: label.astype(np.float64) if label.dtype.kind == "f" else label for name, label in labels.items()},
        masks=_paths(location, "mask", moment_us_N, any(segment.masks for segment in segments)),
        depths=_paths(location, "depth", moment_us_N, any(segment.depths for segment in segments)),
        annotation=Path(location.folder) / "dataset_info.json",
    )


def _paths(location: Location, kind: str, moment_us_N: np.ndarray, stored: bool) -> tuple[Path, ...]:
    if not stored:
        return ()
    return tuple(Path(annotation_path(location, kind, moment)) for moment in moment_us_N.tolist())
