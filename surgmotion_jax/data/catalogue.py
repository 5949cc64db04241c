"""Opens every video once, leaves out what cannot be used, and divides the rest into train and held-out time."""

import dataclasses
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from surgmotion_jax.data.config import DataConfig
from surgmotion_jax.data.copies import originals
from surgmotion_jax.data.decode import probe
from surgmotion_jax.data.findings import Finding, findings
from surgmotion_jax.data.generator import keyed_generator
from surgmotion_jax.data.media import Limits, UnreadableVideo, VideoInfo
from surgmotion_jax.data.patience import Patience
from surgmotion_jax.data.records.source import check_rate, is_records
from surgmotion_jax.data.sample import Fault
from surgmotion_jax.data.sources import VideoFile, expand, passed_over

Stretch = tuple[float, float]
"""Seconds of a video, from and to, that clips may be taken from."""


class BudgetExceeded(ValueError):
    """More unreadable files than the budget allows; the message lists them all."""


@dataclass(frozen=True)
class Video:
    """A readable video with the time that each split may use; None where it may use none."""

    file: VideoFile
    info: VideoInfo
    train: Stretch | None
    heldout: Stretch | None


@dataclass(frozen=True)
class Catalogue:
    """All that is known before the first clip is drawn."""

    videos: tuple[Video, ...]  # grouped by dataset, in the order of the sources
    faults: tuple[Fault, ...]  # files that cannot be read
    short: tuple[Fault, ...]  # videos left out because they are shorter than a clip (`short="skip"`)
    copies: tuple[Fault, ...]  # files left out because their content is listed under another name
    passed_over: tuple[Fault, ...]  # files in the folders searched that are neither videos nor frames
    findings: tuple[Finding, ...]  # what is done about readable files that are not stored as they look
    listed: int  # files that the sources name


def limits_of(config: DataConfig) -> Limits:
    """The caps of the configuration, as the decoder takes them."""
    return Limits(config.max_pixels, config.max_duration_s, config.max_streams, config.recheck)


def scan(config: DataConfig, seed: int) -> Catalogue:
    """Opens every file that the sources name, in `config.threads` threads.

    Raises:
        BudgetExceeded: more files are unreadable than `config.bad_budget` allows.
        Stalled: several files at once do not answer.
        ValueError: a source with no usable video, a file in two datasets, or nothing left to hold out.
    """
    named = [file for name, source in config.sources.items() for file in expand(name, source)]
    for source in config.sources.values():
        if is_records(source.path) and config.frames > 1:
            check_rate(source.path, config.fps)
    _check_datasets_disjoint(named)
    files, copies = _without_copies(named)
    patience = Patience(config.stalled_s)
    with ThreadPoolExecutor(config.threads, thread_name_prefix="probe") as pool:
        found = list(pool.map(lambda file: _open(file, limits_of(config), patience), files))
    faults = tuple(result for result in found if isinstance(result, Fault))
    check_budget(config, faults, len(named))
    infos = {result.path: result for result in found if isinstance(result, VideoInfo)}
    short: list[Fault] = []
    opened: list[tuple[VideoFile, VideoInfo]] = []
    pieces = [piece for whole in files if whole.path in infos for piece in _takes(whole, infos[whole.path])]
    for file, info in pieces:
        usable_s = min(file.end_s, info.duration_s) - file.start_s
        if config.short == "skip" and usable_s <= config.span_s:
            reason = f"{usable_s:.2f} s, shorter than a clip of {config.span_s:.2f} s"
            short.append(Fault(file.dataset, file.path, reason))
        else:
            opened.append((file, info))
    _check_none_empty(config, opened, (*faults, *short))
    return Catalogue(
        _split(config, seed, opened),
        faults,
        tuple(short),
        copies,
        tuple(fault for name, source in config.sources.items() for fault in passed_over(name, source)),
        tuple(finding for info in infos.values() for finding in findings(info)),
        len(named),
    )


def _takes(file: VideoFile, info: VideoInfo) -> Iterator[tuple[VideoFile, VideoInfo]]:
    """A file cut at the borders of its takes, which no clip straddles."""
    for start_s, end_s in info.borders_s:
        start, end = max(file.start_s, start_s), min(file.end_s, end_s)
        if start < end:
            piece = file if len(info.borders_s) == 1 else dataclasses.replace(file, start_s=start, end_s=end)
            yield piece, info.within(start, end)


def _without_copies(files: Sequence[VideoFile]) -> tuple[list[VideoFile], tuple[Fault, ...]]:
    """The files without those whose content is listed before under another name, and these.

    Raises ValueError where the two are in different datasets.
    """
    original = originals([file.path for file in files])
    dataset = {file.path: file.dataset for file in reversed(files)}
    kept, left_out = [], dict[str, Fault]()
    for file in files:
        first = original.get(file.path, file.path)
        if first == file.path:
            kept.append(file)
        elif dataset[first] != file.dataset:
            raise ValueError(_two_datasets(file.path, dataset[first], file.dataset))
        else:
            left_out[file.path] = Fault(file.dataset, file.path, f"the same video as {first}, which is listed already")
    return kept, tuple(left_out.values())


def check_budget(config: DataConfig, faults: Sequence[Fault], listed: int) -> None:
    """Raises BudgetExceeded with the full list when too many different files are at fault."""
    reasons = {fault.path: f"  {fault.dataset}: {fault.path}: {fault.reason}" for fault in reversed(faults)}
    allowed = config.bad_allowed(listed)
    if len(reasons) > allowed:
        lines = "\n".join(reversed(reasons.values()))
        raise BudgetExceeded(
            f"{len(reasons)} of {listed} files are unreadable, allowed are {allowed}"
            f" (data config field bad_budget = {config.bad_budget:g}); repair or remove:\n{lines}"
        )


def _open(file: VideoFile, limits: Limits, patience: Patience) -> VideoInfo | Fault:
    try:
        info = patience.read(file.path, lambda: probe(file.path, limits, file.folder_fps))
    except UnreadableVideo as error:
        return Fault(file.dataset, file.path, error.reason)
    if file.start_s >= info.duration_s:
        reason = f"its segment starts at {file.start_s:g} s, the video ends at {info.duration_s:g} s"
        return Fault(file.dataset, file.path, reason)
    return info


def _check_datasets_disjoint(files: Sequence[VideoFile]) -> None:
    owner: dict[str, str] = {}
    for file in files:
        first = owner.setdefault(os.path.realpath(file.path), file.dataset)
        if first != file.dataset:
            raise ValueError(_two_datasets(file.path, first, file.dataset))


def _two_datasets(path: str, first: str, second: str) -> str:
    return (
        f"{path} is in the datasets {first!r} and {second!r}; it could be trained on in one and held out in the other,"
        " so list it once"
    )


def _check_none_empty(config: DataConfig, opened: Sequence[tuple[VideoFile, VideoInfo]], lost: Sequence[Fault]) -> None:
    kept = {file.dataset for file, _ in opened}
    for name, source in config.sources.items():
        if name not in kept:
            lines = "\n".join(f"  {fault.path}: {fault.reason}" for fault in lost if fault.dataset == name)
            raise ValueError(
                f"source {name!r}: no readable video at {source.path} that is long enough"
                f" (data config field short = {config.short!r}):\n{lines}"
            )


def _split(config: DataConfig, seed: int, opened: Sequence[tuple[VideoFile, VideoInfo]]) -> tuple[Video, ...]:
    aside: set[tuple[str, str]] = set()
    if config.holdout and config.holdout_by == "case":
        aside = _cases_aside(config, seed, [file for file, _ in opened])
    videos = []
    for file, info in opened:
        whole = (file.start_s, min(file.end_s, info.duration_s))
        train: Stretch | None = whole
        heldout: Stretch | None = None
        if (file.dataset, file.case) in aside:
            train, heldout = None, whole
        elif config.holdout and config.holdout_by == "time":
            train, heldout = _cut(config, info, whole)
        videos.append(Video(file, info, train, heldout))
    if config.holdout and not any(video.heldout for video in videos):
        raise ValueError(
            f"data config field holdout = {config.holdout:g}: no video is long enough for a training clip and a"
            f" held-out clip of {config.span_s:g} s each; use shorter clips, holdout_by = 'case', or holdout = 0"
        )
    return tuple(videos)


def _cut(config: DataConfig, info: VideoInfo, whole: Stretch) -> tuple[Stretch, Stretch | None]:
    """Keeps the end of a video aside: the fraction asked for, but at least one clip.

    Between the two lies one step, of the clip or of the video, whichever is longer, so that no frame is on
    display on both sides. A video too short for a clip on either side is trained on as a whole.
    """
    begin, end = whole
    clip_s = config.frames / config.fps
    gap_s = max(1 / config.fps, 1 / info.fps)
    border = end - max(config.holdout * (end - begin), clip_s)
    if border - gap_s - begin <= config.span_s:
        return whole, None
    return (begin, border - gap_s), (border, end)


def _cases_aside(config: DataConfig, seed: int, files: Sequence[VideoFile]) -> set[tuple[str, str]]:
    """Draws the fraction of the cases of each dataset, at least one, always leaving one to train on."""
    aside: set[tuple[str, str]] = set()
    for name in config.sources:
        cases = sorted({file.case for file in files if file.dataset == name})
        count = min(max(1, math.floor(config.holdout * len(cases))), len(cases) - 1)
        # Keyed by the name, so that a dataset added to the mixture leaves the others' split alone.
        rng = keyed_generator(seed, zlib.crc32(name.encode()), "cases aside")
        aside |= {(name, cases[i]) for i in rng.permutation(len(cases))[:count]}
    if not aside:
        raise ValueError(
            "data config field holdout_by = 'case': every dataset has only one case, and none can be kept aside;"
            " use holdout_by = 'time', or holdout = 0"
        )
    return aside
