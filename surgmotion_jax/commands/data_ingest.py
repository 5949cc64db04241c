"""Turns recordings into a corpus: a store of records to train from, without copies, leaks, and what is no surgery.

SOURCE is a video, folder, glob or CSV of videos, NAME=PATH to name it, or a CSV table of sources (columns dataset,
path, specialty, licence, terms, folder_fps). Repeat a command to go on where it stopped. The store serves as
`records:DIR#DATASET` wherever videos are named; left_out.jsonl in it says what is not there, and why.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, comma_list, config_flags, flag, positional, switch
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.corpus.beam import BeamEngine
from surgmotion_jax.corpus.config import IngestConfig
from surgmotion_jax.corpus.declared import declared
from surgmotion_jax.corpus.engine import Engine, LocalEngine
from surgmotion_jax.corpus.judge import Judge
from surgmotion_jax.corpus.lists import read_lists
from surgmotion_jax.corpus.pipeline import LOSSES, REPORT, Ingested, ingest
from surgmotion_jax.corpus.publish import check_free, publish
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.data.records.manifest import MANIFEST
from surgmotion_jax.pages.corpus import corpus_page

LOCAL = "local"


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    sources: tuple[str, ...] = positional("SOURCE", "what to ingest", default=())
    out: str = flag("DIR", "where the store is written; gs://... and the like with --work")
    work: str = flag("DIR", "local folder in which a store is made that is then copied to --out", default="")
    config: tuple[str, ...] = config_flags(
        "pretraining", "instead of SOURCE: a config whose data.sources are meant", required=False
    )
    exclude: tuple[str, ...] = flag(
        "LISTS", "exclusion lists, as surgmotion data fingerprint writes them", default=(), read=comma_list
    )
    fps: float = flag("F", "frames kept a second, at most; 0 keeps the recording's own rate", default=4.0, least=0)
    size: int = flag("S", "short side in pixels", default=384, least=16)
    quality: int = flag("Q", "of JPEG, 1 to 100", default=90)
    shard_mb: float = flag("MB", "size of a shard", default=512.0, above=0)
    least_s: float = flag("S", "seconds of the shortest stretch that is kept", default=4.0, least=0)
    keep_outside: bool = switch("keep what shows the outside of the body, where faces and screens may be in view")
    pictures: bool = switch(
        "show a frame of each case, and of what lists name, in the report; treat it then as the videos"
    )
    keep: str = flag(
        "DIR", "workdir of an evaluation whose head judges each second, beside what is measured", default=""
    )
    keep_classes: tuple[str, ...] = flag("A,B", "the classes of that head that are kept", default=(), read=comma_list)
    keep_encoder: str = flag("CHECKPOINT", "its encoder, if that is not where it was evaluated", default="")
    workers: int = flag("N", "processes of this machine; 0 does everything in one", default=0, least=0)
    runner: str = flag("NAME", "local, or a runner of Apache Beam: DirectRunner, FlinkRunner, ...", default=LOCAL)
    beam: tuple[str, ...] = flag("OPTION", "an option of the Beam pipeline, as --beam=--flink_master=...", default=())

    def __post_init__(self) -> None:
        if bool(self.sources) == bool(self.config):
            raise ValueError("name what to ingest, either as SOURCE or by --config; see surgmotion data ingest --help.")
        if self.beam and self.runner == LOCAL:
            raise ValueError(f"--beam={self.beam[0]} is for a runner of Apache Beam; give --runner, as DirectRunner.")
        if (self.keep_classes or self.keep_encoder) and not self.keep:
            raise ValueError("--keep-classes and --keep-encoder are about a head; name its evaluation by --keep.")
        if storage.is_local(self.out) == bool(self.work):
            raise ValueError(
                f"--out={self.out}: a store in a bucket is made in a local folder and then copied, so give --work=DIR; "
                "a store on a local disk or mount is made in its place, without --work."
            )

    @property
    def place(self) -> str:
        """The local folder in which the store is made."""
        return self.work or self.out


LINE = CommandLine("data ingest", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, data_ingest)


def data_ingest(request: Request) -> int:
    if request.work:
        check_free(request.out, Path(request.work))
    if request.work and (Path(request.work) / MANIFEST).exists():
        print(f"{request.work} holds a finished store, which is copied; for another one, name another --work")
    else:
        make(request)
    if request.work:
        publish(request.work, request.out, tell)
        print(f"copied to {request.out}, from where it is to be mounted or copied to be read")
    return 0


def make(request: Request) -> None:
    """Makes the store in its local folder, and says what became of the recordings."""
    config = IngestConfig(
        fps=request.fps,
        size=request.size,
        quality=request.quality,
        shard_mb=request.shard_mb,
        least_s=request.least_s,
        keep_outside=request.keep_outside,
    )
    sources = sources_of(request)
    judge = Judge(request.keep, request.keep_classes, request.keep_encoder) if request.keep else None
    with engine_of(request) as engine:
        page = partial(corpus_page, request.place, pictures=request.pictures)
        made = ingest(sources, request.place, config, engine, read_lists(request.exclude), page, judge)
    print("\n".join(summary(request.place, made)))
    print(f"wrote {request.place}/{REPORT}")


def sources_of(request: Request) -> Mapping[str, SourceConfig]:
    """The sources by name."""
    return pretrain_config(request.config).data.sources if request.config else declared(request.sources)


def engine_of(request: Request) -> AbstractContextManager[Engine]:
    """What does the work."""
    if request.runner == LOCAL:
        return LocalEngine(request.workers, tell)
    return nullcontext(BeamEngine(request.runner, request.beam, tell))


def tell(line: str) -> None:
    """Progress, on stderr: in place on a terminal, a line each elsewhere."""
    print(line, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def summary(out: str, made: Ingested) -> list[str]:
    """What was kept, and what was left out for which reason."""
    hours = sum(case.seconds for case in made.manifest.cases) / 3600
    cases, shards = len(made.manifest.cases), len(made.manifest.shards)
    lines = [f"kept {hours:.2f} hours of {cases} cases in {shards} shards"]
    for reason in sorted({loss.reason for loss in made.losses}):
        of = [loss for loss in made.losses if loss.reason == reason]
        lines.append(f"left out, {reason}: {len(of)} ({sum(loss.seconds for loss in of) / 3600:.2f} hours)")
    lines += [loss.text for loss in made.losses if loss.detail]
    return [*lines, f"all of it: {out}/{LOSSES}", *(f"records:{out}#{one.name}" for one in made.manifest.sets)]
