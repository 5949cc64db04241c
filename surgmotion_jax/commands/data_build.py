"""Writes a data set as a TFDS folder of ArrayRecords, for fast reading and for other programs.

TensorFlow is not needed, neither here nor to read it. The folder serves as `tfds:FOLDER` wherever videos or a
benchmark's root are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.benchmarks.tfds_builder import BuildConfig, build
from surgmotion_jax.commands.command_line import CommandLine, flag


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    benchmark: str = flag("NAME", "which data set; surgmotion data check lists them")
    root: str = flag("DIR", "its folder")
    out: str = flag("TFDS_DIR", "where to write; the data set becomes TFDS_DIR/NAME/1.0.0")
    protocol: str | None = flag("P", "which of its splits or folds (default: the first)", default=None)
    fps: float = flag("F", "frames kept per second, in step with the scored moments; 0 keeps all", default=1.0)
    size: int | None = flag("S", "short side in pixels (default: as stored)", default=None, least=1)
    quality: int = flag("Q", "of JPEG, 1 to 100, for frames that are not image files already; 0 stores PNG", default=90)


LINE = CommandLine("data build", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, data_build)


def data_build(request: Request) -> int:
    benchmark = catalogue.get(request.benchmark, request.root)
    protocol = catalogue.protocol_of(benchmark, request.protocol)
    config = BuildConfig(request.fps or None, request.size, request.quality or None)
    contents = benchmark.read(Path(request.root).expanduser(), protocol)
    built = build(benchmark, contents, Path(request.out).expanduser(), config)
    for split, (cases, records) in built.counts.items():
        print(f"{split:<6} {cases} cases in {records} records")
    print(f"built: tfds:{built.folder}")
    return 0
