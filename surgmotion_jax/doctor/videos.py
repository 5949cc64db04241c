"""Opens videos the way a run opens them, and draws a few clips."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from surgmotion_jax.data import ClipDataset, DataConfig, describe
from surgmotion_jax.data.findings import Finding, image_findings
from surgmotion_jax.data.sources import sources_at
from surgmotion_jax.doctor.line import Line, Subject

TIMED_CLIPS = 4


class Named(Protocol):
    """A file and what is to be said of it."""

    @property
    def path(self) -> str: ...

    @property
    def reason(self) -> str: ...


class Listing(NamedTuple):
    """Files that share a finding, each of which gets a line."""

    label: str
    files: Callable[[ClipDataset], Sequence[Named]]


def found(dataset: ClipDataset) -> list[Finding]:
    """What sets files off from ordinary ones; of folders of images, from the headers of all of them."""
    infos = {video.info.path: video.info for video in dataset.catalogue.videos}
    return [*dataset.catalogue.findings, *(line for info in infos.values() for line in image_findings(info))]


LISTINGS = (
    Listing("unreadable", lambda dataset: dataset.faults),
    Listing("left out", lambda dataset: (*dataset.catalogue.short, *dataset.catalogue.copies)),
    Listing("passed over", lambda dataset: dataset.catalogue.passed_over),
    Listing("found", found),
)
"""In the order to print."""


def look(subject: Subject) -> Iterator[Line]:
    """Opens every video, lists what is to be known of files, then draws a few clips the way a run draws them."""
    dataset = open_dataset(subject)
    for row in describe(dataset):
        yield Line(
            f"data {row['dataset']}",
            f"{row['files']} files, {row['cases']} cases, {row['hours']:.2f} h, specialty {row['specialty']}, "
            f"{row['clips_train']} training and {row['clips_heldout']} held-out clips, "
            f"{100 * row['share']:.0f} % of draws, {row['short']} too short, {row['unreadable']} unreadable",
        )
    for listing in LISTINGS:
        for fault in listing.files(dataset):
            yield Line(listing.label, f"{fault.path}: {fault.reason}")
    yield Line("decoding", time_clips(dataset))
    if subject.config is not None:
        dataset.clip(0, "heldout")  # a run evaluates: raises where nothing is held out


def open_dataset(subject: Subject) -> ClipDataset:
    """The videos of the config, or those named."""
    if subject.config is not None:
        asked, seed = subject.config.data, subject.config.seed
    else:
        assert subject.data is not None
        # Without a config the question is only whether the files can be read, however short they are.
        asked, seed = DataConfig(sources_at(subject.data), holdout=0.0), 0
    # What is timed is decoding: frames kept in memory would hide it.
    return ClipDataset(dataclasses.replace(asked, memory_gb=0.0), seed)


def time_clips(dataset: ClipDataset) -> str:
    """Draws training clips one after another, unthreaded. Raises ValueError where too many files turn out broken."""
    started = time.perf_counter()
    for index in range(TIMED_CLIPS):
        dataset.clip(index)
    each = 1000 * (time.perf_counter() - started) / TIMED_CLIPS
    config = dataset.config
    height, width = config.canvas
    return (
        f"{each:.0f} ms a clip of {config.frames} frames at {config.fps:g} fps, {width} x {height} px, in one thread "
        f"(mean of {TIMED_CLIPS} clips)"
    )
