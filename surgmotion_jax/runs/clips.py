"""Batches of clips on the devices, for training and for the held-out evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

from surgmotion_jax.data import Batch, ClipDataset, batches
from surgmotion_jax.data.loader import complain
from surgmotion_jax.parallel.mesh import MeshLayout, process_rows, to_global
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.image_branch import of_images
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
    images: ClipDataset | None = None  # images beside the clips, for a config that asks for some

    def training(self, first_step: int, passed_over: int, event: Event) -> Generator[RawBatch, None, None]:
        """As of `Clips`. Unreadable files met on the way become events, and so do decoding processes lost."""
        step, start, stop = first_step, first_step + passed_over, self.config.steps + passed_over

        def tell(text: str) -> None:
            event(step, text)

        source = training_rows(self.config, self.layout, (self.dataset, self.images), start, stop, tell)
        with closing(source):
            for step, (clips, images) in enumerate(source, first_step):
                for fault in (*clips.skipped, *(images.skipped if images else ())):
                    event(step, f"unreadable, replaced by another clip: {fault.path}: {fault.reason}")
                batch = self._on_devices(clips, self.config.optim.batch)
                pictures = self._on_devices(images, self.config.images.batch) if images else None
                yield batch._replace(images=pictures)

    def heldout(self) -> Iterator[tuple[RawBatch, tuple[str, ...]]]:
        """As of `Clips`."""
        size, count = self.config.heldout.batch, self.config.heldout.clips // self.config.heldout.batch
        rows = process_rows(self.layout, size)
        source = batches(self.dataset, global_batch=size, rows=rows, start_step=0, stop_step=count, split="heldout")
        for batch in source:
            yield self._on_devices(batch, size), batch.origin

    def _on_devices(self, batch: Batch, size: int) -> RawBatch:
        return to_global(self.layout, raw(batch), size)


def raw(batch: Batch) -> RawBatch:
    """What the device is sent of a batch."""
    return RawBatch(batch.video_BxTxHxWx3, batch.valid_BxT, batch.index_B)  # type: ignore[arg-type]


def image_dataset(config: PretrainConfig, clips: ClipDataset) -> ClipDataset | None:
    """The images that a config asks for beside its clips, or None.

    Where they are frames of the videos that clips are cut from, they come from the same stretches of time.
    """
    if not config.images.batch:
        return None
    single = of_images(config)
    return ClipDataset(single.data, single.seed, None if config.images.path else clips.catalogue)


def training_rows(
    config: PretrainConfig,
    layout: MeshLayout,
    datasets: tuple[ClipDataset, ClipDataset | None],
    start: int,
    stop: int,
    tell: Callable[[str], None] = complain,
) -> Generator[tuple[Batch, Batch | None], None, None]:
    """This process's rows of the clips, and of the images if there are any, of each step from `start` to `stop`.

    `tell` is told of decoding processes that are lost and replaced.
    """
    clips, images = datasets
    with ExitStack() as stack:

        def rows(dataset: ClipDataset, size: int) -> Generator[Batch, None, None]:
            mine = process_rows(layout, size)
            source = batches(dataset, global_batch=size, rows=mine, start_step=start, stop_step=stop, tell=tell)
            return stack.enter_context(closing(source))

        own = rows(clips, config.optim.batch)
        pictures = repeat(None, stop - start) if images is None else rows(images, config.images.batch)
        yield from zip(own, pictures, strict=True)
