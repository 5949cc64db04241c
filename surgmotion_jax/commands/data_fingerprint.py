"""Writes the fingerprints of the videos that a benchmark is tested on, to be kept out of pretraining.

The list can be shared without the videos: nothing of a picture can be seen in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.commands.command_line import CommandLine, comma_list, flag
from surgmotion_jax.corpus.leaks import of_benchmark
from surgmotion_jax.corpus.lists import write_list


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    benchmark: str = flag("NAME", "which data set; surgmotion data check lists them")
    root: str = flag("DIR", "its folder")
    out: str = flag("FILE", "the list to write, a JSON file")
    protocol: str | None = flag("P", "which of its splits or folds (default: the first)", default=None)
    splits: tuple[str, ...] = flag("A,B", "whose videos", default=("test", "val"), read=comma_list)


LINE = CommandLine("data fingerprint", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, data_fingerprint)


def data_fingerprint(request: Request) -> int:
    benchmark = catalogue.get(request.benchmark)
    contents = benchmark.read(Path(request.root).expanduser(), catalogue.protocol_of(benchmark, request.protocol))
    videos = list(of_benchmark(contents, request.splits))
    if not videos:
        raise ValueError(f"--splits: {request.benchmark} has no case in {', '.join(request.splits)}; check --root")
    write_list(request.out, videos)
    hours = sum(len(video.seconds) for video in videos) / 3600
    print(f"wrote {request.out}: {len(videos)} videos, {hours:.2f} hours")
    return 0
