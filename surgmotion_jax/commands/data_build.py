"""`surgmotion data build --benchmark=NAME --root=DIR --out=TFDS_DIR [--protocol=P] [--fps=F] [--size=S] [...]`

Writes a data set as a TFDS folder of ArrayRecords, for fast reading and for other programs. TensorFlow is not needed,
neither here nor to read it. The folder serves as `tfds:FOLDER` wherever videos or a benchmark's root are named.

  --benchmark=NAME   which data set; `surgmotion data check` lists them
  --root=DIR         its folder
  --out=TFDS_DIR     where to write; the data set becomes TFDS_DIR/NAME/1.0.0
  --protocol=P       which of its splits or folds (default: the first)
  --fps=F            frames kept per second, in step with the scored moments; 0 keeps all (default: 1)
  --size=S           short side in pixels (default: as stored)
  --quality=Q        of JPEG, 1 to 100, for frames that are not image files already; 0 stores PNG (default: 90)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    given = read_request(argv)
    from surgmotion_jax.benchmarks import catalogue
    from surgmotion_jax.benchmarks.tfds_builder import BuildConfig, build

    benchmark = catalogue.get(given.benchmark)
    protocol = catalogue.protocol_of(benchmark, given.protocol)
    config = BuildConfig(given.fps or None, given.size, given.quality or None)
    contents = benchmark.read(Path(given.root).expanduser(), protocol)
    built = build(benchmark, contents, Path(given.out).expanduser(), config)
    for split, (cases, records) in built.counts.items():
        print(f"{split:<6} {cases} cases in {records} records")
    print(f"built: tfds:{built.folder}")
    return 0


def read_request(argv: Sequence[str]) -> argparse.Namespace:
    """Reads a command line. Raises ValueError for anything unknown or missing."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in ("--benchmark", "--root", "--out", "--protocol"):
        parser.add_argument(name)
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--size", type=int)
    parser.add_argument("--quality", type=int, default=90)
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion data build --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion data build --help.")
    for name in ("benchmark", "root", "out"):
        if getattr(given, name) is None:
            raise ValueError(f"--{name} is missing; see surgmotion data build --help.")
    if given.size is not None and given.size < 1:
        raise ValueError(f"--size is {given.size}; it must be at least 1 pixel.")
    return given
