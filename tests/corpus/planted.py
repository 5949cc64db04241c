"""A made-up corpus with known faults, and how well an ingestion finds them.

  python -m tests.corpus.planted FOLDER --operations=60 --workers=2

Simulated operations of four specialties in four kinds of files; in them copies, sub-clips, benchmark videos, stretches
that are no surgery, and damaged files. Each second of each file has one truth, and precision and recall count seconds.
Letters: N frames, H, W pixels.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.engine import LocalEngine
from surgmotion_jax.corpus.fingerprint import Fingerprint, hashes
from surgmotion_jax.corpus.lists import ListedVideo
from surgmotion_jax.corpus.losses import COPY, LEAK, NEAR_COPY, UNREADABLE, Loss
from surgmotion_jax.corpus.matching import matches
from surgmotion_jax.corpus.observe import glance, lit
from surgmotion_jax.corpus.pipeline import ingest
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.simulate.case import SPECIALTIES, SceneConfig
from surgmotion_jax.simulate.layouts.layout import plain_vocabulary
from surgmotion_jax.simulate.render import render
from surgmotion_jax.simulate.room import draw_room, room_view
from surgmotion_jax.simulate.script import write_script
from tests.corpus.scenes import letterboxed, resized, scene, write_file, write_folder
from tests.data import recordings

FPS, SIZE, SECONDS = 4.0, (96, 128), 24
KINDS = (".mp4", ".mkv", ".ts", "")
COPIES = "copies"
"""The data set that is listed last: of two recordings that share a stretch, the one listed first keeps it."""

OUTSIDE, BLACK, FROZEN, CARD, SHORT = "outside the body", "black", "frozen", "title card or test picture", "too short"


@dataclass(frozen=True)
class Plan:
    """Numbers of the operations that something is done to; the benchmark's own are in no other file."""

    exact: tuple[int, ...]
    altered: tuple[int, ...]
    parts: tuple[int, ...]
    tested: tuple[int, ...]
    outside: tuple[int, ...]
    black: tuple[int, ...]
    frozen: tuple[int, ...]
    cards: tuple[int, ...]
    damaged: tuple[int, ...]
    rotated: tuple[int, ...]


def plan(counts: Mapping[str, int]) -> Plan:
    """As many of each as asked for, one after another."""
    taken, fields = 0, {}
    for name, count in counts.items():
        fields[name] = tuple(range(taken, taken + count))
        taken += count
    return Plan(**fields)


WHOLE = {
    "exact": 6, "altered": 6, "parts": 4, "tested": 3, "outside": 5, "black": 4, "frozen": 4, "cards": 2, "damaged": 3,
    "rotated": 1,
}  # fmt: skip

Truth = dict[str, np.ndarray]
"""What each second of a file is, by reason, bool [seconds]."""


def operation(number: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, H, W, 3], and whether the camera is outside the body, bool [N]."""
    config = SceneConfig(SPECIALTIES[number % 4], *SIZE, fps=FPS, seconds=SECONDS)
    script = write_script(config, plain_vocabulary(7), 0.5, 1000 + number)
    video = np.stack([frame.video_HxWx3 for frame in render(script, 0, script.frames)])
    return video, script.out_of_body_T.copy()


def write_operation(number: int, root: Path, planned: Plan) -> dict[str, Truth]:
    """Writes all files of one operation. Returns the truth by the path below the root."""
    video, outside_N = operation(number)
    specialty, suffix = SPECIALTIES[number % 4], KINDS[number // 4 % 4]
    name = f"{specialty}/{number:03d}"
    if number in planned.tested:
        return _write_tested(number, video, root)
    reasons = {OUTSIDE: outside_N}
    start, stop = round(8 * FPS), round(13 * FPS)
    flag_N = np.zeros(len(video), bool)
    flag_N[start:stop] = True
    if number in planned.outside:
        config = SceneConfig(specialty, *SIZE, fps=FPS, seconds=SECONDS)
        room = draw_room(config, np.random.default_rng(number))
        video[start:stop] = [255 * room_view(room, config, n) for n in range(start, stop)]
        reasons[OUTSIDE] = outside_N | flag_N
    if number in planned.black:
        video[start:stop] = np.random.default_rng(number).integers(0, 8, video[start:stop].shape)
        reasons = {OUTSIDE: outside_N & ~flag_N, BLACK: flag_N}
    if number in planned.frozen:
        video[start:stop] = video[start]
        reasons = {OUTSIDE: np.where(flag_N, False, outside_N), FROZEN: flag_N}
    if number in planned.cards:
        flag_N = np.arange(len(video)) < round(5 * FPS)
        video[flag_N] = _card()
        reasons = {OUTSIDE: outside_N & ~flag_N, CARD: flag_N}
    truth = {name + suffix: _seconds(reasons)}
    if number in planned.rotated:
        turned = recordings.Storage(turn=90, rate=round(FPS))
        recordings.write(_made(root / f"{name}.mp4"), list(np.rot90(video, -1, (1, 2))), turned)
        return {f"{name}.mp4": truth[name + suffix]}
    if number in planned.damaged:
        return _write_damaged(number, video, root, name)
    path = write_folder(root / name, video) if not suffix else write_file(root / f"{name}{suffix}", video, FPS)
    other = f"{COPIES}/copy{number:03d}"
    if number in planned.exact:
        shutil.copytree(path, root / other) if path.is_dir() else shutil.copy(path, _made(root / f"{other}{suffix}"))
        truth[other + suffix] = {COPY: np.ones(SECONDS, bool)}
    if number in planned.altered:
        small = resized(video, (72, 96), crop=0.03)[::2]
        write_file(root / f"{other}.mp4", small, FPS / 2, crf=26)
        truth[f"{other}.mp4"] = {NEAR_COPY: np.ones(SECONDS, bool)}
    if number in planned.parts:
        write_file(root / f"{other}.mkv", video[round(6 * FPS) : round(18 * FPS)], FPS, crf=20)
        truth[f"{other}.mkv"] = {NEAR_COPY: np.ones(12, bool)}
    return truth


def _write_tested(number: int, video: np.ndarray, root: Path) -> dict[str, Truth]:
    """A benchmark's video as it came into the corpus: the first of each four letterboxed, the others re-encoded."""
    name = f"{SPECIALTIES[number % 4]}/unknown{number:03d}.mp4"
    write_file(root / name, letterboxed(video, 16) if number % 4 == 0 else resized(video, (80, 108)), FPS, crf=24)
    return {name: {LEAK: np.ones(SECONDS, bool)}}


def _write_damaged(number: int, video: np.ndarray, root: Path, name: str) -> dict[str, Truth]:
    """Cut short, bytes overwritten in the middle, or no video at all."""
    path = write_file(root / f"{name}.mp4", video, FPS)
    data = bytearray(path.read_bytes())
    if number % 3 == 0:
        data = data[: len(data) * 2 // 3]
    elif number % 3 == 1:
        middle = len(data) // 2
        data[middle : middle + 2000] = bytes(2000)
    else:
        data = bytearray(b"<html>sign in to download</html>")
    path.write_bytes(bytes(data))
    return {f"{name}.mp4": {UNREADABLE: np.ones(SECONDS, bool)}}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _card() -> np.ndarray:
    card = np.full((*SIZE, 3), (20, 30, 60), np.uint8)
    for row in (30, 48, 66):
        card[row : row + 8, 16:112:5] = 235
    return card


def _seconds(reasons: Mapping[str, np.ndarray]) -> Truth:
    """A second is what any of its frames is."""
    return {reason: flag_N.reshape(SECONDS, -1).any(1) for reason, flag_N in reasons.items()}


def listed(planned: Plan) -> Iterator[ListedVideo]:
    """The list of the benchmark."""
    for number in planned.tested:
        small = np.stack([glance(picture).small_SxSx3 for picture in operation(number)[0]])
        yield ListedVideo("test", Fingerprint("bench", f"video{number}", *hashes(small, FPS, lit(small))))


def scores(truth: Mapping[str, Truth], losses: Sequence[Loss], root: Path) -> dict[str, tuple[int, int, int]]:
    """By reason: seconds that were planted, seconds that were left out, and seconds that were both.

    Copies and near-duplicates count as one. The second on either side of a planted stretch counts neither way, nor do
    the margins that are left out with a match.
    """
    found: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(SECONDS, bool))
    for loss in losses:
        first, last = int(loss.start_s + 1e-6), int(np.ceil(loss.end_s - 1e-6)) or SECONDS
        found[str(Path(loss.path).relative_to(root)), _alike(loss.reason)][first:last] = True
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path, reason in {*found, *((p, _alike(r)) for p, of in truth.items() for r in of)}:
        planted = np.zeros(SECONDS, bool)
        for name, flag in truth.get(path, {}).items():
            if _alike(name) == reason:
                planted[: len(flag)] |= flag
        wide = np.convolve(planted, np.ones(3), "same") > 0
        taken = found[path, reason]
        sure = planted & ~(np.convolve(~planted, np.ones(3), "same") > 0) if not planted.all() else planted
        counts[reason][0] += int(sure.sum())
        counts[reason][1] += int((taken & (~wide | sure)).sum())
        counts[reason][2] += int((taken & sure).sum())
    return {reason: (a, b, c) for reason, (a, b, c) in sorted(counts.items())}


def _alike(reason: str) -> str:
    return "copies" if reason in (COPY, NEAR_COPY) else reason


def false_leaks(videos: Sequence[ListedVideo], hours: int) -> int:
    """Matches with ten minutes at a time of other scenes."""
    prints = [video.seconds for video in videos]
    for seed in range(hours * 6):
        small = np.stack([glance(p).small_SxSx3 for p in scene(5000 + seed, 600, 1.0, (48, 64))])
        prints.append(Fingerprint("other", str(seed), *hashes(small, 1.0, lit(small))))
    return sum(match.second < len(videos) <= match.first for match in matches(prints))


def build(root: Path, operations: int, planned: Plan, workers: int) -> dict[str, Truth]:
    """Writes the corpus. Returns the truth by path."""
    write = partial(write_operation, root=root, planned=planned)
    if not workers:
        return {path: of for number in range(operations) for path, of in write(number).items()}
    with ProcessPoolExecutor(workers) as pool:
        return {path: of for found in pool.map(write, range(operations)) for path, of in found.items()}


def sources(root: Path) -> dict[str, SourceConfig]:
    """A data set of each specialty, and one of copies."""
    named = {name: SourceConfig(str(root / name), name, folder_fps=FPS) for name in SPECIALTIES}
    return {**named, COPIES: SourceConfig(str(root / COPIES), SPECIALTIES[0], folder_fps=FPS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operations", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hours", type=int, default=10, help="of other video that is compared with the benchmark")
    asked = parser.parse_args()
    planned = plan(WHOLE)
    started = time.perf_counter()
    truth = build(asked.folder / "in", asked.operations, planned, asked.workers)
    videos = list(listed(planned))
    print(f"written: {len(truth)} files in {time.perf_counter() - started:.0f} s", flush=True)
    started = time.perf_counter()
    with LocalEngine(asked.workers) as engine:
        config = IngestConfig(fps=FPS, size=SIZE[0])
        made = ingest(sources(asked.folder / "in"), str(asked.folder / "out"), config, engine, videos)
    print(f"ingested: {len(made.manifest.cases)} cases in {time.perf_counter() - started:.0f} s")
    for reason, (planted, taken, both) in scores(truth, made.losses, asked.folder / "in").items():
        precision, recall = both / max(taken, 1), both / max(planted, 1)
        counted = f"planted {planted:4d} s, left out {taken:4d} s"
        print(f"{reason:<28} {counted}, precision {precision:.3f}, recall {recall:.3f}")
    print(f"false leaks in {asked.hours} hours of other video: {false_leaks(videos, asked.hours)}")


if __name__ == "__main__":
    main()
