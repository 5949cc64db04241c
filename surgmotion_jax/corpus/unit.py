"""One recording, decoded once: its frames as JPEG files, what is to be left out of them, and its fingerprint.

A unit is a few files in a folder of work, named by the content of the recording and the settings. Its JSON file is
written last; where that is there, the unit is done, whoever asks for it and on whichever machine. Nothing in a unit
depends on the names that sources give, or on other recordings.

Letters: N frames that are stored, M of them that are looked at, T seconds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.fingerprint import hashes
from surgmotion_jax.corpus.observe import Glance, Observed, View, glance, lit
from surgmotion_jax.corpus.recording import Recording
from surgmotion_jax.corpus.stretches import Run, no_surgery, runs, shots
from surgmotion_jax.data.decode import frames_in_turn, probe
from surgmotion_jax.data.findings import findings
from surgmotion_jax.data.media import UnreadableVideo, VideoInfo
from surgmotion_jax.data.records.jpeg import encode_jpeg
from surgmotion_jax.data.records.record import Box, Record, pack, unpack
from surgmotion_jax.data.records.shard import SUFFIX, Shard, write_shard

LOOKED_AT = 4.0
"""Pictures a second that are looked at, at most."""

CHUNK = 32
"""Frames of a record of a unit."""


@dataclass(frozen=True)
class Part:
    """A take of a recording. Frame n is on display from n / fps seconds."""

    shard: str  # file of the frames, in the folder of units
    fps: float
    height: int
    width: int
    first: int  # number of the first frame
    frames: int
    end: int  # number of the frame that the take would have next, at its end
    step: int  # every such frame was looked at
    view: View
    left_out: tuple[Run, ...]  # in pictures that were looked at
    cuts: tuple[int, ...]

    @property
    def time_base(self) -> Fraction:
        return 1 / Fraction(self.fps).limit_denominator(1_000_000)

    @property
    def box(self) -> Box:
        """The field of view in pixels."""
        top, left, bottom, right = self.view
        return (
            round(top * self.height),
            round(left * self.width),
            round(bottom * self.height),
            round(right * self.width),
        )

    @property
    def rate(self) -> float:
        """Pictures a second that were looked at."""
        return self.fps / self.step

    @property
    def pictures(self) -> int:
        """How many of the frames were looked at."""
        return math.ceil(self.frames / self.step)


@dataclass(frozen=True)
class Unit:
    """What is known of a recording once it was read."""

    key: str
    parts: tuple[Part, ...]
    fault: str = ""  # why it cannot be used
    findings: tuple[str, ...] = ()
    seconds: float = 0.0
    fps: float = 0.0  # of the recording


@dataclass(frozen=True)
class Task:
    """A unit to make."""

    recording: Recording
    content: str  # SHA-256
    config: IngestConfig

    @property
    def key(self) -> str:
        """The name of the unit."""
        asked = json.dumps([self.content, self.recording.segments, self.recording.folder_fps, self.config.digest])
        return hashlib.sha256(asked.encode()).hexdigest()[:24]


def make_unit(task: Task, folder: str) -> None:
    """Reads a recording, unless that was done. One that cannot be read becomes a unit that says why."""
    done = Path(folder) / f"{task.key}.json"
    if done.exists():
        return
    try:
        unit = _read(task, Path(folder))
    except UnreadableVideo as error:
        unit = Unit(task.key, (), error.reason)
    storage.write_text_atomic(done, json.dumps(dataclasses.asdict(unit), sort_keys=True))


def read_unit(folder: str, key: str) -> Unit:
    """A unit that is done."""
    tree = storage.read_json(Path(folder) / f"{key}.json")
    parts = [
        Part(
            **{
                **part,
                "view": View(*part["view"]),
                "left_out": tuple(Run(*run) for run in part["left_out"]),
                "cuts": tuple(part["cuts"]),
            }
        )
        for part in tree["parts"]
    ]
    return Unit(**{**tree, "parts": tuple(parts), "findings": tuple(tree["findings"])})


def read_arrays(folder: str, part: Part) -> dict[str, np.ndarray]:
    """bytes_N of the frames, hash_TxW, strong_T."""
    with np.load(Path(folder) / part.shard.replace(SUFFIX, ".npz"), allow_pickle=False) as arrays:
        return dict(arrays)


def frame_files(shard: Shard, number: int) -> tuple[bytes, ...]:
    """The JPEG files of a record of a unit: those of frames `number * CHUNK` on, counted from the first stored."""
    return unpack(f"{shard.path}, record {number}", shard.read(number)).frames


def _read(task: Task, folder: Path) -> Unit:
    recording = task.recording
    info = probe(recording.path, recording.limits, recording.folder_fps)
    parts = []
    for number, (start_s, end_s) in enumerate(info.borders_s):
        take = info.within(start_s, end_s)
        spans = [(max(a, start_s) - start_s, min(b, end_s) - start_s) for a, b in recording.segments]
        first, last = min(a for a, _ in spans), max(b for _, b in spans)
        if last > first:
            parts.append(_read_take(task, take, folder, f"{task.key}-{number}{SUFFIX}", (first, last), spans))
    if not parts:
        raise UnreadableVideo(recording.path, "no segment of it lies within its length")
    told = tuple(finding.reason for finding in findings(info))
    return Unit(task.key, tuple(parts), "", told, info.duration_s, info.fps)


def _read_take(
    task: Task, take: VideoInfo, folder: Path, name: str, span_s: tuple[float, float], spans: list[tuple[float, float]]
) -> Part:
    """Stores the frames of a take from and to some second, and looks at them."""
    config = task.config
    fps = min(config.fps, take.fps) if config.fps else take.fps
    first = math.ceil(span_s[0] * fps - 1e-6)
    end = max(first + 1, math.ceil(span_s[1] * fps - 1e-6))
    step = max(1, round(fps / LOOKED_AT))
    shape = take.output_size(min(config.size, take.height, take.width))
    glances: list[Glance] = []
    sizes: list[int] = []
    times_s = (take.start_s + n / fps for n in range(first, end))

    def stored() -> Iterator[bytes]:
        for n, picture in enumerate(frames_in_turn(take, times_s, shape, task.recording.limits)):
            if n % step == 0:
                glances.append(glance(picture))
            file = encode_jpeg(picture, config.quality)
            sizes.append(len(file))
            yield file

    write_shard(folder / name, _chunks(stored(), first))
    small_MxSxSx3 = np.stack([one.small_SxSx3 for one in glances])
    observed = Observed(small_MxSxSx3, np.array([one.sharpness for one in glances], np.float32), lit(small_MxSxSx3))
    rate = fps / step
    hash_TxW, strong_T = hashes(small_MxSxSx3, rate, observed.view)
    with storage.Draft(folder / name.replace(SUFFIX, ".npz"), ".npz") as temporary:
        np.savez(temporary, bytes_N=np.array(sizes), hash_TxW=hash_TxW, strong_T=strong_T)
    left_out = [*no_surgery(observed, rate, config.thresholds, config.keep_outside)]
    left_out += _between(spans, first / fps, rate, len(glances))
    cuts = shots(observed, rate, config.thresholds)
    return Part(name, fps, *shape, first, len(sizes), end, step, observed.view, tuple(sorted(left_out)), tuple(cuts))


def _chunks(files: Iterator[bytes], first: int) -> Iterator[bytes]:
    """Frames as records, whose names are given later."""
    held: list[bytes] = []
    start = first
    for file in files:
        held.append(file)
        if len(held) == CHUNK:
            yield _chunk(held, start)
            start, held = start + CHUNK, []
    if held:
        yield _chunk(held, start)


def _chunk(files: list[bytes], start: int) -> bytes:
    ticks = np.arange(start, start + len(files))
    return pack(Record("", "", "", Fraction(1), ticks, start + len(files), (0, 0, 0, 0), tuple(files)))


def _between(spans: list[tuple[float, float]], first_s: float, rate: float, pictures: int) -> Iterator[Run]:
    """Pictures that lie in no segment that the source names."""
    second_M = first_s + np.arange(pictures) / rate
    named_M = np.zeros(pictures, bool)
    for start_s, end_s in spans:
        named_M |= (second_M >= start_s - 1e-6) & (second_M < end_s - 1e-6)
    yield from (Run(start, stop, "not named by its source") for start, stop in runs(~named_M))
