"""Features of many videos: decoded ahead in threads, encoded in batches of one shape, a file a video.

Letters: W windows of a batch, T frames of a window, S side of the square, t token steps of a window, h and w rows and
columns of patches, D width.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Generic, TypeVar

import jax
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.benchmarks.windows import EPSILON_S
from surgmotion_jax.checkpoints.manifest import installed_versions
from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.data.decode import probe
from surgmotion_jax.data.media import DEFAULT_LIMITS, Limits, UnreadableVideo, VideoInfo
from surgmotion_jax.data.sample import Fault
from surgmotion_jax.data.sources import VideoFile
from surgmotion_jax.evaluate.config import RESIZES
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.features import windows
from surgmotion_jax.evaluate.features.files import SUFFIXES, VideoFeatures, feature_writer
from surgmotion_jax.evaluate.features.index import FeatureIndex, file_names, source_of
from surgmotion_jax.evaluate.features.pca_video import PCA_SUFFIX, Gallery
from surgmotion_jax.evaluate.features.window_frames import content_box, read_windows
from surgmotion_jax.evaluate.features.windows import WindowPlan
from surgmotion_jax.models.architecture import architecture

POOLS = ("mean", "time", "none")

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class ExtractSettings:
    """What decides the features, apart from the encoder; the same for all files of a folder."""

    plan: WindowPlan = dataclasses.field(default_factory=WindowPlan)
    size: int = 256  # side of the square that the encoder sees, in pixels
    resize: str = "letterbox"  # how a frame becomes a square: one of RESIZES
    pool: str = "mean"  # mean: one vector a window; time: one a token step; none: every token
    layers: tuple[int, ...] = ()  # 0-based blocks whose outputs to keep too, pooled alike
    form: str = "npz"  # file format: npz or array_record
    ending: bool = False  # windows end at 0, stride_s, ... and repeat the first frame before it; else they start there

    def __post_init__(self) -> None:
        one_of("resize", self.resize, RESIZES)
        one_of("pool", self.pool, POOLS)
        one_of("format", self.form, tuple(SUFFIXES))

    def to_dict(self, encoder: FrozenEncoder) -> dict[str, object]:
        """Plain JSON values, with the encoder's: equal where the features are."""
        config, fields = encoder.config, dataclasses.asdict(self)
        return {
            "checkpoint": {"digest": encoder.origin.digest, "weights": list(encoder.origin.weights)},
            "architecture": architecture(config),
            "compute": {"dtype": config.dtype, "attention": config.attention},
            "windows": fields.pop("plan"),
            **fields,
            "layers": list(self.layers),
        }


@dataclass(frozen=True)
class Machine:
    """How much of the machine to use; changes no feature beyond rounding."""

    batch: int = 8  # windows encoded at a time
    threads: int = 2  # decoding threads
    limits: Limits = DEFAULT_LIMITS  # caps on what is opened and decoded

    def __post_init__(self) -> None:
        at_least("batch", self.batch, 1)
        at_least("threads", self.threads, 1)


@dataclass(frozen=True)
class Outcome:
    """What a call of `extract` did: names of videos written, names found finished, files that cannot be read."""

    written: tuple[str, ...]
    skipped: tuple[str, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Progress:
    """After each batch: the video at work, and windows done and known of in all videos."""

    name: str
    done: int
    windows: int
    finished: bool  # whether the video is complete


@dataclass(frozen=True, eq=False)
class _Job:
    """One video to be done, opened and planned."""

    name: str
    file: VideoFile
    info: VideoInfo
    due_WxT: np.ndarray  # of all its windows
    end_s: float


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Up to a batch of windows of one video."""

    job: _Job
    due_WxT: np.ndarray

    @property
    def shown_WxT(self) -> np.ndarray:
        """The times to decode."""
        return np.maximum(windows.shown_times(self.due_WxT, self.job.end_s), self.job.file.start_s)

    @property
    def real_WxT(self) -> np.ndarray:
        """Which frames are due within the stretch."""
        return windows.real_frames(self.due_WxT, self.job.end_s) & self._begun(self.due_WxT)

    def step_valid(self, tubelet: int) -> np.ndarray:
        """Which token steps repeat no frame, bool [W,t]."""
        first_Wxt = self.due_WxT[:, :: min(tubelet, self.due_WxT.shape[1])]
        return windows.step_valid(self.due_WxT, self.job.end_s, tubelet) & self._begun(first_Wxt)

    def _begun(self, due: np.ndarray) -> np.ndarray:
        return np.asarray(due > self.job.file.start_s - EPSILON_S)


def extract(
    files: Sequence[VideoFile],
    out: storage.PathLike,
    encoder: FrozenEncoder,
    settings: ExtractSettings,
    *,
    machine: Machine = Machine(),
    pca_s: float = 0.0,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Writes the features of videos into the folder `out`, and for the first `pca_s` seconds a picture of them.

    Finished videos are left alone; a video that cannot be read is passed over and listed. A file appears only when
    it is whole, so a call that was interrupted is simply repeated, and ends with the same bytes.

    Raises OtherSettings where the folder was made otherwise; ValueError for sizes that the encoder does not take,
    layers that it has not, names that collide, formats that cannot be written to `out`, and features that are not
    finite, naming video and time.
    """
    encoder.grid(settings.plan.frames, settings.size, settings.size)
    encoder.check_layers(settings.layers)
    named = file_names(files)
    index = FeatureIndex(out, settings.to_dict(encoder))
    extras = {name: f"{name}{PCA_SUFFIX}" if pca_s else "" for name in named}
    pending = {name: file for name, file in named.items() if not index.finished(name, file, extras[name])}
    run = _Run(out, encoder, settings, machine, pca_s, index, report)
    written, faults = run.all(pending)
    return Outcome(tuple(written), tuple(name for name in named if name not in pending), tuple(faults))


class _Run:
    def __init__(
        self,
        out: storage.PathLike,
        encoder: FrozenEncoder,
        settings: ExtractSettings,
        machine: Machine,
        pca_s: float,
        index: FeatureIndex,
        report: Callable[[Progress], None],
    ) -> None:
        self._out, self._encoder, self._settings, self._machine = storage.as_path(out), encoder, settings, machine
        self._pca_s, self._index, self._report = pca_s, index, report

    def all(self, pending: dict[str, VideoFile]) -> tuple[list[str], list[Fault]]:
        """Names of the videos written, and what cannot be read."""
        written: list[str] = []
        with ThreadPoolExecutor(self._machine.threads, thread_name_prefix="decode") as pool:
            opened = list(pool.map(self._open, pending, pending.values()))
            faults = [found for found in opened if isinstance(found, Fault)]
            jobs = [found for found in opened if isinstance(found, _Job)]
            chunks = [self._chunks(job) for job in jobs]
            ahead = _Ahead(pool, self._read, itertools.chain.from_iterable(chunks), self._machine.threads + 1)
            total, before = sum(len(job.due_WxT) for job in jobs), 0
            try:
                for job, own in zip(jobs, chunks, strict=True):
                    tell = partial(self._tell, job.name, before, total)
                    try:
                        self._one(job, own, ahead, tell)
                        written.append(job.name)
                    except UnreadableVideo as error:
                        faults.append(_fault(job.file, error))
                    before += len(job.due_WxT)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return written, faults

    def _tell(self, name: str, before: int, total: int, done: int, finished: bool) -> None:
        self._report(Progress(name, before + done, total, finished))

    def _open(self, name: str, file: VideoFile) -> _Job | Fault:
        try:
            info = probe(file.path, self._machine.limits, file.folder_fps)
            info = info.within(file.start_s, file.end_s)
            end_s = min(file.end_s, info.duration_s)
            if file.start_s >= end_s:
                raise UnreadableVideo(
                    file.path, f"its segment starts at {file.start_s:g} s, the video ends at {info.duration_s:g} s"
                )
        except UnreadableVideo as error:
            return _fault(file, error)
        return _Job(name, file, info, due_times(file.start_s, end_s, self._settings), end_s)

    def _chunks(self, job: _Job) -> list[_Chunk]:
        batch = self._machine.batch
        return [_Chunk(job, job.due_WxT[first : first + batch]) for first in range(0, len(job.due_WxT), batch)]

    def _read(self, chunk: _Chunk) -> np.ndarray:
        settings, limits = self._settings, self._machine.limits
        return read_windows(chunk.job.info, chunk.shown_WxT, settings.size, settings.resize, limits)

    def _one(
        self, job: _Job, chunks: Sequence[_Chunk], ahead: _Ahead[_Chunk, np.ndarray], tell: Callable[[int, bool], None]
    ) -> None:
        """Writes the files of one video and enters it in the index."""
        settings, done = self._settings, 0
        path = f"{job.name}{SUFFIXES[settings.form]}"
        gallery = Gallery(settings.plan, content_box(job.info, settings.size, settings.resize)) if self._pca_s else None
        with feature_writer(self._out / path, settings.form, self._metadata(job)) as writer:
            for chunk in chunks:
                frame_WxTxSxSx3 = ahead.take(chunk)
                arrays, tokens_BxtxhxwxD = self._encode(chunk, frame_WxTxSxSx3)
                writer.add(arrays)
                if gallery is not None and chunk.due_WxT[0, 0] < job.due_WxT[0, 0] + self._pca_s:
                    gallery.add(
                        chunk.due_WxT,
                        chunk.real_WxT,
                        frame_WxTxSxSx3,
                        np.asarray(tokens_BxtxhxwxD)[: len(frame_WxTxSxSx3)],
                    )
                done += len(chunk.due_WxT)
                tell(done, False)
        paths = [path]
        if gallery is not None:
            paths.append(f"{job.name}{PCA_SUFFIX}")
            gallery.write(self._out / paths[1], self._pca_s + job.file.start_s - float(job.due_WxT[0, 0]))
        self._index.add(job.name, job.file, paths, done)
        tell(done, True)

    def _encode(self, chunk: _Chunk, frame_WxTxSxSx3: np.ndarray) -> tuple[dict[str, np.ndarray], jax.Array]:
        """What is written of a batch, and the tokens of its rows and of those that fill it up.

        All batches have one size: one shape, one program.
        """
        settings, count = self._settings, len(frame_WxTxSxSx3)
        filled = np.zeros((self._machine.batch, *frame_WxTxSxSx3.shape[1:]), np.uint8)
        filled[:count] = frame_WxTxSxSx3
        tokens, layers = self._encoder.with_layers(filled, settings.layers)
        tubelet = self._encoder.config.tubelet
        features = VideoFeatures(
            np.asarray(pooled(tokens, settings.pool))[:count],
            {n: np.asarray(pooled(x, settings.pool))[:count] for n, x in zip(settings.layers, layers, strict=True)},
            chunk.due_WxT[:, 0],
            chunk.shown_WxT[:, -1],
            windows.step_times(chunk.due_WxT, tubelet),
            chunk.step_valid(tubelet),
            {},
        )
        _check_finite(chunk, features)
        return features.to_arrays(), tokens

    def _metadata(self, job: _Job) -> dict[str, object]:
        origin, info = self._encoder.origin, job.info
        return {
            "case": job.file.case,
            "source": source_of(job.file),
            "video": {"duration_s": info.duration_s, "fps": info.fps, "height": info.height, "width": info.width},
            "checkpoint": {"name": origin.name, "step": origin.step},
            "settings": self._settings.to_dict(self._encoder),
            "versions": installed_versions(),
        }


def _check_finite(chunk: _Chunk, found: VideoFeatures) -> None:
    """Raises ValueError naming the video and the window whose features are not numbers."""
    for rows_W in (found.features, *found.layers.values()):
        wrong_W = ~np.isfinite(rows_W.reshape(len(rows_W), -1)).all(1)
        if wrong_W.any():
            at = float(chunk.due_WxT[int(wrong_W.argmax()), 0])
            raise ValueError(
                f"{chunk.job.file.path}: features of the window at {at:g} s are not finite, though the weights are; "
                "compute in float32 (--dtype=float32) or with another attention (--attention=xla)."
            )


def due_times(start_s: float, end_s: float, settings: ExtractSettings) -> np.ndarray:
    """When the frames of all windows of a stretch are due, float64 [W,T] seconds.

    Windows that end at moments are those of an evaluation of these moments: what is due before the stretch shows its
    first frame.
    """
    plan = settings.plan
    if not settings.ending:
        return windows.due_times(windows.window_starts(start_s, end_s, plan), plan)
    count = max(1, math.ceil((end_s - start_s - EPSILON_S) / plan.stride_s))
    moment_W = start_s + plan.stride_s * np.arange(count)
    return np.asarray(moment_W[:, None] - np.arange(plan.frames - 1, -1, -1) / plan.fps)


def _fault(file: VideoFile, error: UnreadableVideo) -> Fault:
    """What is wrong with a video; an image of a frame folder is named."""
    image = "" if error.path == file.path else f"{PurePath(error.path).name}: "
    return Fault(file.dataset, file.path, image + error.reason)


@partial(jax.jit, static_argnames="pool")
def pooled(tokens_WxtxhxwxD: jax.Array, pool: str) -> jax.Array:
    """Tokens [W,t,h,w,D] as they are written: the mean over a window [W,D], over each step [W,t,D], or all."""
    axes = {"mean": (1, 2, 3), "time": (2, 3), "none": ()}[pool]
    return tokens_WxtxhxwxD.mean(axes) if axes else tokens_WxtxhxwxD


class _Ahead(Generic[Item, Found]):
    """Runs a function over items in threads, in order and a few items ahead of whoever takes the results."""

    def __init__(
        self, pool: ThreadPoolExecutor, run: Callable[[Item], Found], items: Iterable[Item], most: int
    ) -> None:
        self._pool, self._run, self._left, self._most = pool, run, iter(items), most
        self._begun: deque[tuple[Item, Future[Found]]] = deque()
        self._fill()

    def take(self, wanted: Item) -> Found:
        """The result for an item, or what it raised. Items before it that nobody took are dropped."""
        while self._begun:
            item, future = self._begun.popleft()
            self._fill()
            if item is wanted:
                return future.result()
            future.cancel()
        raise AssertionError("items are taken in their order, each once")

    def _fill(self) -> None:
        while len(self._begun) < self._most and (item := next(self._left, None)) is not None:
            self._begun.append((item, self._pool.submit(self._run, item)))
