"""Batches of clips on the devices, for training and for the held-out evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from surgmotion_jax.data import Batch, ClipDataset, batches
from surgmotion_jax.parallel.mesh import MeshLayout, process_rows, to_global
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import RawBatch

Event = Callable[[int, str], None]
"""Told of a step and of what happened there."""


class Clips(Protocol):
    """Where a run gets its batches."""

    def training(self, first_step: int, passed_over: int, event: Event) -> Generator[RawBatch, None, None]:
        """Global batches from a step on, with `passed_over` steps' worth of data left out by rollbacks."""
        ...

    def heldout(self) -> Iterator[tuple[RawBatch, tuple[str, ...]]]:
        """Global batches kept aside, with the origins of this process's rows."""
        ...


@dataclass(frozen=True)
class DatasetClips:
    """Clips of a data set, decoded ahead; each process reads its own rows."""

    config: PretrainConfig
    layout: MeshLayout
    dataset: ClipDataset

    def training(self, first_step: int, passed_over: int, event: Event) -> Generator[RawBatch, None, None]:
        """As of `Clips`. Unreadable files met on the way become events."""
        size = self.config.optim.batch
        rows = process_rows(self.layout, size)
        start, stop = first_step + passed_over, self.config.steps + passed_over
        source = batches(self.dataset, global_batch=size, rows=rows, start_step=start, stop_step=stop)
        with closing(source):
            for step, batch in enumerate(source, first_step):
                for fault in batch.skipped:
                    event(step, f"unreadable, replaced by another clip: {fault.path}: {fault.reason}")
                yield self._on_devices(batch, size)

    def heldout(self) -> Iterator[tuple[RawBatch, tuple[str, ...]]]:
        """As of `Clips`."""
        size, count = self.config.heldout.batch, self.config.heldout.clips // self.config.heldout.batch
        rows = process_rows(self.layout, size)
        source = batches(self.dataset, global_batch=size, rows=rows, start_step=0, stop_step=count, split="heldout")
        for batch in source:
            yield self._on_devices(batch, size), batch.origin

    def _on_devices(self, batch: Batch, size: int) -> RawBatch:
        rows = RawBatch(batch.video_BxTxHxWx3, batch.valid_BxT, batch.index_B)  # type: ignore[arg-type]
        return to_global(self.layout, rows, size)
