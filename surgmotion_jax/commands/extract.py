"""`surgmotion extract VIDEO... --out DIR --checkpoint PATH [flags]`: features of videos from a frozen encoder.

Slides a window over each video, encodes it, and writes one file a video (read it with
`surgmotion_jax.evaluate.features.files.read_features`, or an npz with NumPy) with the features, the time of each and
how they were made. Repeating the command does what is left; other settings need another folder. A video is a file, a
folder of videos, a folder of frames, a quoted glob, or a CSV (columns path, case, start, end). With --moments=1 windows
end at every second, the first frame repeated before the start, which is what `surgmotion evaluate --features` scores.
Exit code 1: some videos could not be read; they are listed, and the others are done.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from surgmotion_jax.pretrain.monitor.progress import duration

if TYPE_CHECKING:
    from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
    from surgmotion_jax.evaluate.features.extract import ExtractSettings, Progress

SOME_UNREADABLE = 1


def main(argv: Sequence[str]) -> int:
    given = read_command_line(argv)
    from surgmotion_jax.checkpoints.lock import workdir_lock
    from surgmotion_jax.data.config import SourceConfig
    from surgmotion_jax.data.sources import expand
    from surgmotion_jax.evaluate.encoder.frozen import load_encoder
    from surgmotion_jax.evaluate.features.extract import ExtractSettings, Machine, extract
    from surgmotion_jax.evaluate.features.windows import plan_windows

    ending = given.moments is not None
    stride_s = 1 / given.moments if ending else given.stride
    plan = plan_windows(given.frames, given.fps, stride_s=stride_s, overlap=given.overlap)
    settings = ExtractSettings(plan, given.size, given.resize, given.pool, given.layers, given.format, ending)
    machine = Machine(given.batch, given.threads)
    sources = [SourceConfig(path, folder_fps=given.folder_fps) for path in given.videos]
    files = [file for source in sources for file in expand("videos", source)]
    encoder = load_encoder(given.checkpoint, weights=given.weights, dtype=given.dtype, attention=given.attention)
    print(describe(encoder, settings, len(files)), flush=True)
    line = ProgressLine(sys.stdout)
    with workdir_lock(given.out):
        pca_s = given.pca_seconds if given.pca else 0.0
        outcome = extract(files, given.out, encoder, settings, machine=machine, pca_s=pca_s, report=line.update)
    line.end()
    print(f"{len(outcome.written)} written, {len(outcome.skipped)} finished before, in {given.out}")
    for fault in outcome.faults:
        print(f"unreadable: {fault.path}: {fault.reason}", file=sys.stderr)
    return SOME_UNREADABLE if outcome.faults else 0


def read_command_line(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, checked one by one; what they mean together is checked where it is used."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("surgmotion extract", description=__doc__, formatter_class=form, allow_abbrev=False)
    p.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder, frame folder, glob or CSV")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the features")
    p.add_argument("--checkpoint", required=True, metavar="PATH", help="workdir, weights, or random:VARIANT[:SEED]")
    p.add_argument("--weights", default="target", choices=("target", "online"), help="moving average, or online")
    p.add_argument("--frames", type=int, default=16, help="frames per window (16)")
    p.add_argument("--fps", type=float, default=4.0, help="frames per second within a window (4)")
    p.add_argument("--stride", type=float, metavar="S", help="seconds between window starts (a window's length)")
    p.add_argument("--overlap", type=float, metavar="F", help="or: fraction of a window that the next shares")
    p.add_argument("--moments", type=float, metavar="R", help="or: windows that end R times a second, for evaluate")
    p.add_argument("--size", type=int, default=256, help="side of the square that the encoder sees, pixels (256)")
    p.add_argument("--resize", default="letterbox", help="letterbox (all of it, black bars), squash, center_crop")
    p.add_argument("--pool", default="mean", help="mean (a vector a window), time (a vector a step), none (all tokens)")
    p.add_argument("--layers", type=layer_numbers, default=(), metavar="5,11", help="blocks to keep too, from 0")
    p.add_argument("--format", default="npz", help="npz, or array_record (a record a window; for long videos)")
    p.add_argument("--batch", type=int, default=8, help="windows encoded at a time (8)")
    p.add_argument("--threads", type=int, default=2, help="decoding threads (2)")
    p.add_argument("--dtype", default="float32", help="of the computation: float32 or bfloat16")
    p.add_argument("--attention", default="xla", help="xla, cudnn (NVIDIA GPUs), splash (TPUs)")
    p.add_argument("--folder-fps", type=float, default=1.0, help="frames per second of frame folders (1)")
    p.add_argument("--pca", action="store_true", help="also a video of frames beside features as colours")
    p.add_argument("--pca-seconds", type=float, default=60.0, metavar="S", help="of each video; held in memory (60)")
    given = p.parse_args(argv)
    if not given.pca_seconds > 0:
        raise ValueError(f"--pca-seconds is {given.pca_seconds:g}; it must be above 0")
    if given.moments is not None:
        if not 0 < given.moments < float("inf"):
            raise ValueError(f"--moments is {given.moments:g}; it must be a finite number above 0, such as 1")
        if given.stride is not None or given.overlap is not None:
            raise ValueError("--moments says when windows end; --stride and --overlap say when they start: leave these")
    return given


def layer_numbers(text: str) -> tuple[int, ...]:
    """'5,11' as numbers, ascending."""
    try:
        return tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of block numbers such as 5,11") from None


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
