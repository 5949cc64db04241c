"""The windows of the scored moments of cases, in order, decoded in a thread while the encoder is at work.

Letters: B windows of a batch, T frames of a window, S side of the square, h and w rows and columns before the fit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from surgmotion_jax.benchmarks.benchmark import Case
from surgmotion_jax.benchmarks.windows import ClipReader
from surgmotion_jax.data.media import VideoInfo
from surgmotion_jax.data.sample import Sample
from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.features.window_frames import decoded_size, fit

Item = TypeVar("Item")

_RELEASED_MARGIN = 292 / 256  # the released evaluation scales to 292 pixels and crops 256


class Position(NamedTuple):
    """A scored moment: number of the case, number of the moment in it."""

    case: int
    row: int


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """Windows of moments, one a row. Rows from `len(positions)` on are filling, to be dropped."""

    video_BxTxSxSx3: np.ndarray  # uint8
    positions: tuple[Position, ...]


def in_order(cases: Sequence[Case]) -> list[Position]:
    """Every scored moment once: by case, then by time."""
    return [Position(number, row) for number, case in enumerate(cases) for row in range(len(case.times_N))]


@dataclass(frozen=True)
class WindowReader:
    """Reads windows at the size that the encoder sees. Cheap to build."""

    data: DataConfig

    def clips(self, case: Case) -> tuple[ClipReader, VideoInfo]:
        """A reader of this case's frames, scaled but not yet square."""
        reader = ClipReader(self.data.frames, self.data.fps or None, dataset=self.data.benchmark)
        info = reader.info(case)
        return dataclasses.replace(reader, size=self.scaled(info)), info

    def scaled(self, info: VideoInfo) -> tuple[int, int]:
        """(rows, columns) to which a frame is resized before it is centred in the square."""
        if self.data.recipe == "released":
            side = round(self.data.size * _RELEASED_MARGIN)
            return side, side
        return decoded_size(info, self.data.size, self.data.resize)

    def case_windows(self, case: Case, rows: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """uint8 [T,S,S,3] of each scored moment in order, or of those numbered `rows`; each frame is decoded once."""
        reader, _ = self.clips(case)
        times_N = case.times_N if rows is None else case.times_N[list(rows)]
        shown = dataclasses.replace(case, times_N=times_N, labels={}, masks=(), depths=())  # what is seen, no truth
        for sample in reader.case_samples(shown):
            yield self._window(sample)

    def window(self, case: Case, row: int) -> np.ndarray:
        """uint8 [T,S,S,3] of one scored moment."""
        reader, _ = self.clips(case)
        return self._window(reader.sample(case, float(case.times_N[row])))

    def _window(self, sample: Sample) -> np.ndarray:
        video_TxSxSx3 = fit(sample.video_TxHxWx3, self.data.size)
        return released_order(video_TxSxSx3, sample.valid_T) if self.data.recipe == "released" else video_TxSxSx3


def released_order(video_TxSxSx3: np.ndarray, valid_T: np.ndarray) -> np.ndarray:
    """Frames as the released loader shows them: at the start of a video the current frame is repeated after the real
    ones, and of T frames the last but one is left out and the last one shown twice."""
    frames = len(valid_T)
    first = int(np.argmax(valid_T))
    padded_T = np.concatenate([np.arange(first, frames), np.full(first, frames - 1)])
    if frames < 2:
        return video_TxSxSx3
    shown_T = np.append(np.linspace(0, frames - 1, frames - 1).astype(int), frames - 1)
    return video_TxSxSx3[padded_T[shown_T]]


def stream(
    cases: Sequence[Case], reader: WindowReader, batch: int, ahead: int = 2, wanted: Container[int] | None = None
) -> Iterator[WindowBatch]:
    """The windows of every scored moment, each exactly once and in order, `batch` at a time.

    With `wanted`, numbers of cases, a batch without a moment of theirs is left out and nothing of it decoded; every
    other one has the members and the places that it has without. The last batch is filled with zeros, so that all
    have one shape. Up to `ahead` batches are decoded in advance.
    """
    chunks = _chunks(cases, batch, wanted)
    seen = 0
    with contextlib.closing(prefetched(_batches(cases, reader, batch, chunks), ahead)) as batches:
        for windows in batches:
            seen += len(windows.positions)
            yield windows
    assert seen == sum(map(len, chunks)), "a moment was lost or read twice"


def _chunks(cases: Sequence[Case], batch: int, wanted: Container[int] | None) -> list[list[Position]]:
    """The members of each batch, a function of the whole list, less the batches that nobody wants."""
    positions = in_order(cases)
    chunks = [positions[start : start + batch] for start in range(0, len(positions), batch)]
    return [chunk for chunk in chunks if wanted is None or any(position.case in wanted for position in chunk)]


def _batches(
    cases: Sequence[Case], reader: WindowReader, batch: int, chunks: Sequence[Sequence[Position]]
) -> Iterator[WindowBatch]:
    by_case = itertools.groupby(itertools.chain.from_iterable(chunks), key=lambda position: position.case)
    videos = (
        video
        for number, positions in by_case
        for video in reader.case_windows(cases[number], [position.row for position in positions])
    )
    for chunk in chunks:
        stacked = np.stack(list(itertools.islice(videos, len(chunk))))
        yield WindowBatch(padded(stacked, batch), tuple(chunk))


def gather(cases: Sequence[Case], reader: WindowReader, positions: Sequence[Position], batch: int) -> WindowBatch:
    """The windows of chosen moments, in the order asked for."""
    videos = [reader.window(cases[position.case], position.row) for position in positions]
    return WindowBatch(padded(np.stack(videos), batch), tuple(positions))


def padded(rows: np.ndarray, batch: int) -> np.ndarray:
    """Rows of zeros appended up to `batch`."""
    missing = batch - len(rows)
    return rows if not missing else np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


def prefetched(items: Iterator[Item], ahead: int) -> Generator[Item, None, None]:
    """`items`, made in a thread up to `ahead` before they are asked for. Errors surface where the item was due."""
    waiting: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(maxsize=ahead)  # None: the end
    stop = threading.Event()

    def put(found: tuple[Item] | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(found, timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                put((item,))
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # whatever it is, it belongs to the reader of the items
            put(error)

    thread = threading.Thread(target=work, name="windows", daemon=True)
    thread.start()
    try:
        while True:
            found = waiting.get()
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]
    finally:
        stop.set()
        thread.join()
