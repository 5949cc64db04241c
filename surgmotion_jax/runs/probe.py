"""The probe of a training run: reads the labelled set, and joins its windows to the encoder and to the two probes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import DataConfig
from surgmotion_jax.evaluate.features.windows_of_cases import WindowReader, padded, prefetched
from surgmotion_jax.evaluate.heads.knn import nearest_neighbours
from surgmotion_jax.parallel.mesh import MeshLayout, check_batch, process_rows, to_global
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.monitor.probing import Moments, ProbeSet, choose, probe_batch, probe_metrics
from surgmotion_jax.pretrain.state import TrainState

Weights = Mapping[str, object]  # a tree of arrays
Encode = Callable[[Weights, jax.Array], jax.Array]
"""(encoder weights, windows [B,T,S,S,3]) -> pooled features [B,D]."""

AHEAD = 2  # batches decoded while one is encoded


def read_probe_set(config: PretrainConfig, layout: MeshLayout) -> ProbeSet | None:
    """The windows that the config asks to probe, or None. Decodes one frame, to see that it can.

    Raises ValueError naming the field for an unknown benchmark, a missing root, a set that cannot be probed.
    """
    settings = config.probe
    if not settings.benchmark:
        return None
    root = Path(settings.root).expanduser()
    benchmark = catalogue.get(settings.benchmark, root if root.is_dir() else None)
    protocol = catalogue.protocol_of(benchmark, settings.protocol or None)
    if not root.is_dir():
        raise ValueError(
            f"probe.root {settings.root!r} is {'a file' if root.exists() else 'no folder here'}; give the folder of "
            f"{benchmark.title}:\n{benchmark.layout}"
        )
    field = "probe.batch" if settings.batch else "heldout.batch"
    check_batch(field, probe_batch(config), layout)
    found = choose(benchmark.read(root, protocol), benchmark, settings.label, settings.windows)
    case, row = found.val.rows_Nx2[-1]
    window_reader(config).window(found.val.cases[case], row)
    return found


def window_reader(config: PretrainConfig) -> WindowReader:
    """Windows as long as the training clips, at the size that the encoder sees, the last frame the labelled one."""
    settings = config.probe
    return WindowReader(
        DataConfig(
            benchmark=settings.benchmark,
            frames=config.data.frames,
            fps=settings.fps or config.data.fps,
            size=config.augment.crop,
            resize=settings.resize,
        )
    )


class Probe:
    """Called with a training state, returns the metrics of the encoder that its run is for.

    Windows are decoded once if they fit into `probe.cache_gb`, else each time; a process decodes the rows that its
    own devices encode. The first process's numbers count, so that all decide alike.
    """

    def __init__(self, config: PretrainConfig, layout: MeshLayout, found: ProbeSet, program: Encode) -> None:
        self.config, self.layout, self.found, self.program = config, layout, found, program
        self._held: dict[str, list[np.ndarray]] = {}

    def __call__(self, state: TrainState) -> dict[str, float]:
        settings, encoder = self.config.probe, self.config.objective.source.evaluated(state)
        train_NxD, val_MxD = (self._features(encoder, split) for split in ("train", "val"))
        metrics = probe_metrics(train_NxD, val_MxD, self.found, vote, settings.neighbours, settings.ridge)
        if jax.process_count() == 1:
            return metrics
        agreed = multihost_utils.broadcast_one_to_all(np.array(list(metrics.values())))
        return dict(zip(metrics, map(float, agreed), strict=True))

    def _features(self, encoder: Weights, split: str) -> np.ndarray:
        moments, size = getattr(self.found, split), probe_batch(self.config)
        encoded = [
            np.asarray(self.program(encoder, to_global(self.layout, video, size))) for video in self._windows(split)
        ]
        return np.concatenate(encoded)[: len(moments.label_N)]

    def _windows(self, split: str) -> Iterator[np.ndarray]:
        """This process's rows of each batch, uint8 [b,T,S,S,3]."""
        moments: Moments = getattr(self.found, split)
        if split in self._held:
            yield from self._held[split]
            return
        keep = self._bytes() <= 1e9 * self.config.probe.cache_gb
        seen = []
        with contextlib.closing(prefetched(self._decoded(moments), AHEAD)) as decoded:
            for video in decoded:
                if keep:
                    seen.append(video)
                yield video
        if keep:
            self._held[split] = seen

    def _decoded(self, moments: Moments) -> Iterator[np.ndarray]:
        reader, size = window_reader(self.config), probe_batch(self.config)
        low, high = process_rows(self.layout, size)
        shape = (self.config.data.frames, self.config.augment.crop, self.config.augment.crop, 3)
        for start in range(0, len(moments.rows_Nx2), size):
            rows = moments.rows_Nx2[start + low : min(start + high, start + size)]
            videos = [reader.window(moments.cases[case], row) for case, row in rows]
            yield padded(np.stack(videos) if videos else np.zeros((0, *shape), np.uint8), high - low)

    def _bytes(self) -> float:
        """Of all windows that this process decodes."""
        low, high = process_rows(self.layout, probe_batch(self.config))
        share = (high - low) / probe_batch(self.config)
        windows = len(self.found.train.label_N) + len(self.found.val.label_N)
        return share * windows * self.config.data.frames * self.config.augment.crop**2 * 3


def vote(bank_NxD: np.ndarray, one_hot_NxK: np.ndarray, query_MxD: np.ndarray, neighbours: int) -> np.ndarray:
    """Class shares [M,K] by weighted nearest neighbours."""
    return nearest_neighbours(bank_NxD, one_hot_NxK, query_MxD, k=neighbours)
