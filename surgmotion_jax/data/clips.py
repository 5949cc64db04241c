"""Draws clips: which video, when, where. A clip is a pure function of (seed, split, index).

Letters: B batch, T frames, H height, W width of the canvas.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from surgmotion_jax.data.cache import VideoCache
from surgmotion_jax.data.catalogue import (
    BudgetExceeded,
    Catalogue,
    Stretch,
    Video,
    check_budget,
    limits_of,
    scan,
)
from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.data.decode import read_all, read_frames
from surgmotion_jax.data.generator import keyed_generator
from surgmotion_jax.data.images import read_single_image
from surgmotion_jax.data.media import FrameTable, UnreadableVideo, covering
from surgmotion_jax.data.mixture import shares
from surgmotion_jax.data.patience import Patience
from surgmotion_jax.data.sample import Fault, Sample

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

_MAX_ATTEMPTS = 100
"""Draws tried for one index before giving up: only reached where nearly all clips fail."""


@dataclass(frozen=True)
class Window:
    """Where a clip lies: a video, its first frame's time, and the canvas's place as fractions of the slack."""

    video: Video
    start_s: float
    end_s: float  # end of the stretch the clip is drawn from: frames due later repeat the last one before it
    place_YX: tuple[float, float]  # 0 top or left, 1 bottom or right


@dataclass(frozen=True)
class _Group:
    """The training videos of one dataset, with the running total of their clips."""

    videos: tuple[Video, ...]
    clips_upto_V: np.ndarray  # int64, inclusive cumulative number of clips


@dataclass
class _Ledger:
    """Files found unreadable so far. Workers get a copy and never write: only the main process counts."""

    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __reduce__(self) -> tuple[type["_Ledger"], tuple[list[Fault]]]:
        return type(self), (list(self.faults),)


class ClipDataset:
    """The clips of a data configuration. Opening it opens every file once; drawing decodes only the clip.

    Train clips are endless draws with replacement under the mixture rule of `mixture.py`; within a dataset
    every start time is equally likely. Held-out clips are enumerated: clip i is of video i mod V, taking its
    clips in turn, so neighbours come from different videos and each video weighs the same; the list starts
    over at its end. The frame is scaled to cover the canvas, and a canvas cut out at a random place for train,
    at the centre for held-out clips; all other augmentation is the device's.

    Given the `catalogue` of another dataset over the same sources, it opens no file and keeps that one's split: clips
    of another length then come from the same stretches of time. Where clips have one frame, each image of a frame
    folder has its own size.

    Raises:
        ValueError: nothing readable, too short, or nothing left to hold out; the message names the source.
        BudgetExceeded: too many unreadable files, all listed.
    """

    def __init__(self, config: DataConfig, seed: int, catalogue: Catalogue | None = None) -> None:
        if not 0 <= seed < 2**64:
            raise ValueError(f"data seed: found {seed}, allowed are whole numbers in [0, 2**64)")
        self.config, self.seed = config, seed
        self.catalogue = catalogue or scan(config, seed)
        self._groups = self._training_groups()
        self.share = self._shares()
        self._heldout = self._heldout_order()
        self._cache = VideoCache(int(config.memory_gb * 1e9 / max(1, config.workers)))
        self._ledger = _Ledger(list(self.catalogue.faults))
        self._patience = Patience(config.stalled_s)

    def clip(self, index: int, split: Split = "train") -> Sample:
        """Clip `index` of a split, failed reads replaced and charged to the budget.

        Raises:
            BudgetExceeded: more files turned out unreadable than the budget allows; all are listed.
            ValueError: an unknown split, a negative index, or a split that holds nothing.
        """
        sample, faults = self.draw(index, split)
        self.charge(faults)
        return sample

    def draw(self, index: int, split: Split = "train") -> tuple[Sample, tuple[Fault, ...]]:
        """Clip `index` of a split, and the failed reads it replaced. Nothing is counted; see `charge`."""
        faults: list[Fault] = []
        for attempt in range(_MAX_ATTEMPTS):
            window = self.window(index, split, attempt)
            try:
                return self._read(window), tuple(faults)
            except UnreadableVideo as error:
                faults.append(Fault(window.video.file.dataset, window.video.file.path, error.reason))
        lines = "\n".join(f"  {path}: {reason}" for path, reason in {f.path: f.reason for f in faults}.items())
        raise BudgetExceeded(f"{split} clip {index}: {_MAX_ATTEMPTS} draws failed in a row:\n{lines}")

    def charge(self, faults: Sequence[Fault]) -> None:
        """Counts files as unreadable, each once; raises BudgetExceeded with the list when they are too many."""
        if not faults:
            return
        with self._ledger.lock:
            known = {fault.path for fault in self._ledger.faults}
            for fault in faults:
                if fault.path not in known:
                    known.add(fault.path)
                    self._ledger.faults.append(fault)
            check_budget(self.config, self._ledger.faults, self.catalogue.listed)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every file found unreadable so far, at opening or while drawing."""
        with self._ledger.lock:
            return tuple(self._ledger.faults)

    def size(self, split: Split) -> int:
        """Number of different clips: held-out clips, or for train the starts one clip step apart."""
        stretches = [getattr(video, split) for video in self.catalogue.videos]
        count = self.train_clips if split == "train" else self.heldout_clips
        return sum(count(stretch) for stretch in stretches if stretch is not None)

    def train_clips(self, stretch: Stretch) -> int:
        """Clips that start a whole number of clip steps into a stretch; at least one."""
        room_s = stretch[1] - stretch[0] - self.config.span_s
        return 1 + max(0, math.floor(room_s * self.config.fps))

    def heldout_clips(self, stretch: Stretch) -> int:
        """Clips that follow one another in a stretch without sharing a frame; at least one."""
        # A stretch is a computed difference of times: without slack it may miss its last clip by rounding.
        return max(1, math.floor((stretch[1] - stretch[0]) * self.config.fps / self.config.frames + 1e-6))

    def window(self, index: int, split: Split = "train", attempt: int = 0) -> Window:
        """Where clip `index` lies. Attempt 1, 2, ... is what replaces it when reading fails."""
        if split not in SPLITS:
            raise ValueError(f"split: found {split!r}, allowed are {' | '.join(SPLITS)}")
        if index < 0:
            raise ValueError(f"clip index: found {index}, allowed are whole numbers of at least 0")
        return self._train_window(index, attempt) if split == "train" else self._heldout_window(index + attempt)

    def _train_window(self, index: int, attempt: int) -> Window:
        rng = keyed_generator(self.seed, index, "clips", attempt)
        share_D = np.cumsum(list(self.share.values()))
        dataset = min(int(np.searchsorted(share_D, rng.random(), side="right")), len(share_D) - 1)
        group = self._groups[list(self.share)[dataset]]
        clip = rng.integers(group.clips_upto_V[-1])
        video = group.videos[int(np.searchsorted(group.clips_upto_V, clip, side="right"))]
        assert video.train is not None
        start, end = video.train
        room_s = max(0.0, end - start - self.config.span_s)
        return Window(video, start + rng.random() * room_s, end, (rng.random(), rng.random()))

    def _heldout_window(self, index: int) -> Window:
        if not self._heldout:
            raise ValueError("split 'heldout' is empty: data config field holdout is 0; set it above 0")
        video = self._heldout[index % len(self._heldout)]
        assert video.heldout is not None
        start, end = video.heldout
        nth = (index // len(self._heldout)) % self.heldout_clips(video.heldout)
        return Window(video, start + nth * self.config.frames / self.config.fps, end, (0.5, 0.5))

    def _read(self, window: Window) -> Sample:
        """Decodes the clip of a window, scaled to cover the canvas and cut to it."""
        config, file = self.config, window.video.file
        due_T = window.start_s + np.arange(config.frames) / config.fps
        # The first frame is always there; the end itself belongs to whatever follows.
        valid_T = due_T < window.end_s - 1e-6
        valid_T[0] = True
        times_T = np.minimum(due_T, due_T[valid_T][-1])
        video = self._frames(window.video, times_T.tolist())
        (height, width), (rows, columns) = config.canvas, video.shape[1:3]
        y = min(int(window.place_YX[0] * (rows - height + 1)), rows - height)
        x = min(int(window.place_YX[1] * (columns - width + 1)), columns - width)
        cut = np.ascontiguousarray(video[:, y : y + height, x : x + width])
        return Sample(file.dataset, file.case, window.start_s, cut, valid_T)

    def _frames(self, video: Video, times_s: list[float]) -> np.ndarray:
        info, limits = video.info, limits_of(self.config)
        read = self._patience.read
        if self.config.frames == 1 and info.images:
            return read(info.path, lambda: read_single_image(info, times_s[0], self.config.canvas, limits))
        height, width = covering((info.height, info.width), self.config.canvas)

        def whole(most: int) -> FrameTable:
            return read_all(info.path, (height, width), info=info, limits=limits, max_frames=most)

        def frames() -> np.ndarray:
            return read_frames(info.path, times_s, (height, width), info=info, limits=limits)

        table = self._cache.get(
            info.path, info.frames, height * width * 3, lambda most: read(info.path, lambda: whole(most))
        )
        return read(info.path, frames) if table is None else table.at(times_s)

    def _training_groups(self) -> dict[str, _Group]:
        groups = {}
        for name in self.config.sources:
            videos = tuple(v for v in self.catalogue.videos if v.file.dataset == name and v.train is not None)
            clips = [self.train_clips(v.train) for v in videos if v.train is not None]
            groups[name] = _Group(videos, np.cumsum(clips))
        return groups

    def _shares(self) -> dict[str, float]:
        clips = {name: int(group.clips_upto_V[-1]) for name, group in self._groups.items()}
        return shares(clips, {name: group.videos[0].file.specialty for name, group in self._groups.items()})

    def _heldout_order(self) -> tuple[Video, ...]:
        """Held-out videos, shuffled within a dataset by the seed, the datasets taking turns."""
        ranked = []
        for number, name in enumerate(self.config.sources):
            videos = [v for v in self.catalogue.videos if v.file.dataset == name and v.heldout is not None]
            rng = keyed_generator(self.seed, number, "heldout order")
            ranked += [(rank, number, videos[i]) for rank, i in enumerate(rng.permutation(len(videos)))]
        return tuple(video for _, _, video in sorted(ranked, key=lambda entry: entry[:2]))


def describe(dataset: ClipDataset) -> list[dict[str, Any]]:
    """One row per dataset for the start banner and the data check.

    Keys: dataset, specialty, files (readable), cases, hours, clips_train, clips_heldout, share (of the draws),
    short (left out), unreadable.
    """
    rows = []
    for name in dataset.config.sources:
        videos = [video for video in dataset.catalogue.videos if video.file.dataset == name]
        train = [dataset.train_clips(video.train) for video in videos if video.train is not None]
        heldout = [dataset.heldout_clips(video.heldout) for video in videos if video.heldout is not None]
        seconds = sum(min(v.file.end_s, v.info.duration_s) - v.file.start_s for v in videos)
        rows.append(
            {
                "dataset": name,
                "specialty": videos[0].file.specialty,
                "files": len({video.file.path for video in videos}),
                "cases": len({video.file.case for video in videos}),
                "hours": seconds / 3600,
                "clips_train": sum(train),
                "clips_heldout": sum(heldout),
                "share": dataset.share[name],
                "short": sum(fault.dataset == name for fault in dataset.catalogue.short),
                "unreadable": sum(fault.dataset == name for fault in dataset.faults),
            }
        )
    return rows
