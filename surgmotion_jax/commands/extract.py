"""Writes features of videos from a frozen encoder.

Slides a window over each video, encodes it, and writes one file a video (read it with
`surgmotion_jax.evaluate.features.files.read_features`, or an npz with NumPy) with the features, the time of each and
how they were made. Repeating the command does what is left; other settings need another folder. A video is a file, a
folder of videos, a folder of frames, a quoted glob, or a CSV (columns path, case, start, end). With --moments=1 windows
end at every second, the first frame repeated before the start, which is what `surgmotion evaluate --features` scores.
Exit code 1: some videos could not be read; they are listed, and the others are done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TextIO

from surgmotion_jax.checkpoints.lock import workdir_lock
from surgmotion_jax.commands.command_line import CommandLine, flag, positional, switch
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.sources import expand
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, load_encoder
from surgmotion_jax.evaluate.features.extract import ExtractSettings, Machine, Progress, extract
from surgmotion_jax.evaluate.features.windows import plan_windows
from surgmotion_jax.pretrain.monitor.progress import duration

SOME_UNREADABLE = 1


def layer_numbers(text: str) -> tuple[int, ...]:
    """'5,11' as numbers, ascending."""
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise ValueError("it must be a list of block numbers such as 5,11") from None


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    videos: tuple[str, ...] = positional("VIDEO", "file, folder, frame folder, glob or CSV")
    out: str = flag("DIR", "folder for the features")
    checkpoint: str = flag("PATH", "workdir, weights, or random:VARIANT[/PATCH][:SEED]")
    weights: Literal["target", "online"] = flag(
        "NAME", "the moving average (target) or the online encoder", default="target"
    )
    frames: int = flag("T", "frames per window", default=16)
    fps: float = flag("F", "frames per second within a window", default=4.0)
    stride: float | None = flag("S", "seconds between window starts (default: a window's length)", default=None)
    overlap: float | None = flag("F", "or: fraction of a window that the next shares", default=None)
    moments: float | None = flag(
        "R", "or: windows that end R times a second, for surgmotion evaluate", default=None, above=0
    )
    size: int = flag("P", "side of the square that the encoder sees, pixels", default=256)
    resize: str = flag("HOW", "letterbox (all of it, black bars), squash, center_crop", default="letterbox")
    pool: str = flag("HOW", "mean (a vector a window), time (a vector a step), none (all tokens)", default="mean")
    layers: tuple[int, ...] = flag("5,11", "blocks to keep too, from 0", default=(), read=layer_numbers)
    format: str = flag("NAME", "npz, or array_record (a record a window; for long videos)", default="npz")
    batch: int = flag("N", "windows encoded at a time", default=8)
    threads: int = flag("N", "decoding threads", default=2)
    dtype: str = flag("NAME", "of the computation: float32 or bfloat16", default="float32")
    attention: str = flag("NAME", "auto, xla, cudnn (NVIDIA GPUs), splash, fused (TPUs)", default="auto")
    folder_fps: float = flag("F", "frames per second of frame folders", default=1.0)
    pca: bool = switch("also a video of frames beside features as colours")
    pca_seconds: float = flag("S", "of each video in that picture; held in memory", default=60.0, above=0)

    def __post_init__(self) -> None:
        if self.moments is not None and (self.stride is not None or self.overlap is not None):
            raise ValueError("--moments says when windows end; --stride and --overlap say when they start: leave these")


LINE = CommandLine("extract", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, extract_features)


def extract_features(request: Request) -> int:
    settings = settings_of(request)
    machine = Machine(request.batch, request.threads)
    sources = [SourceConfig(path, folder_fps=request.folder_fps) for path in request.videos]
    files = [file for source in sources for file in expand("videos", source)]
    encoder = load_encoder(
        request.checkpoint, weights=request.weights, dtype=request.dtype, attention=request.attention
    )
    print(describe(encoder, settings, len(files)), flush=True)
    line = ProgressLine(sys.stdout)
    with workdir_lock(request.out):
        pca_s = request.pca_seconds if request.pca else 0.0
        outcome = extract(files, request.out, encoder, settings, machine=machine, pca_s=pca_s, report=line.update)
    line.end()
    print(f"{len(outcome.written)} written, {len(outcome.skipped)} finished before, in {request.out}")
    for fault in outcome.faults:
        print(f"unreadable: {fault.path}: {fault.reason}", file=sys.stderr)
    return SOME_UNREADABLE if outcome.faults else 0


def settings_of(request: Request) -> ExtractSettings:
    """What decides the features."""
    ending = request.moments is not None
    stride_s = 1 / request.moments if request.moments is not None else request.stride
    plan = plan_windows(request.frames, request.fps, stride_s=stride_s, overlap=request.overlap)
    return ExtractSettings(plan, request.size, request.resize, request.pool, request.layers, request.format, ending)


def describe(encoder: FrozenEncoder, settings: ExtractSettings, videos: int) -> str:
    """What is about to run, and how large it gets."""
    plan, origin = settings.plan, encoder.origin
    grid = encoder.grid(plan.frames, settings.size, settings.size)
    vectors = {"mean": 1, "time": grid.time, "none": grid.tokens}[settings.pool] * (1 + len(settings.layers))
    every = f"{'ending ' if settings.ending else ''}every {plan.stride_s:g} s"
    hourly = 3600 / plan.stride_s * vectors * encoder.width * 4 / 1e6
    return (
        f"encoder {origin.name} ({', '.join(origin.weights)}, step {origin.step}, digest {origin.digest[:12]}), width "
        f"{encoder.width}, on {encoder.layout.batch_parts} device(s)\n"
        f"{videos} video(s); windows of {plan.frames} frames at {plan.fps:g} fps, {plan.span_s:g} s, {every}; "
        f"{settings.size} px {settings.resize}; tokens {' x '.join(map(str, grid))}\n"
        f"about {hourly:.3g} MB per hour of video"
    )


class ProgressLine:
    """Windows done and time left: one line that is redrawn on a terminal, elsewhere a line a video."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal, self._open = stream, stream.isatty(), False
        self._started = time.monotonic()

    def update(self, progress: Progress) -> None:
        if not (self._terminal or progress.finished):
            return
        left = (progress.windows - progress.done) * (time.monotonic() - self._started) / max(progress.done, 1)
        text = f"window {progress.done}/{progress.windows}  {progress.name}  ETA {duration(left)}"
        self._stream.write(f"\r\033[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._open = self._terminal

    def end(self) -> None:
        """Leaves the redrawn line as it is."""
        if self._open:
            self._stream.write("\n")
