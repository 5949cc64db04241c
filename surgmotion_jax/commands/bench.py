"""Times the training step: clips a second, where its time goes, memory, MFU where the peak is known.

Every figure is a median over steps, with its quartiles. Several subjects take turns step by step, in one process, so
that what the machine does meanwhile falls on all of them. Without data, and without data.sources in the config, clips
are synthetic and in memory already.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag, switch
from surgmotion_jax.commands.configs import pretrain_config
from surgmotion_jax.pages.suite import as_html, lines
from surgmotion_jax.pretrain.rows import all_rows, choose_rows, config_of
from surgmotion_jax.runs.benchmark import OURS, SYNTHETIC, Request, benchmark, say
from surgmotion_jax.runs.suite import suite


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags("pretraining", "a config file or the name of a shipped one: bench/peer_tiny")
    data: str | None = flag("PATH", "real clips from a video, folder, glob or CSV", default=None)
    workdir: str | None = flag("DIR", "also write the figures to DIR/bench.json", default=None)
    steps: int = flag("N", "rounds that count", default=20, least=1)
    warmup: int = flag("N", "rounds before them that do not", default=3, least=1)  # the first step is no measure
    against: tuple[str, ...] = flag(
        "NAME:a.b=VALUE,c.d=VALUE", "another subject: the same config with these fields changed", default=()
    )
    rows: str = flag("A,B", "the subjects: these rows of `surgmotion ablate`, instead of the config itself", default="")
    threads: int = flag("N", "CPU threads of every subject; 0: as many as there are cores", default=0, least=0)
    profile: str = flag("DIR", "write a trace of three steps of the first subject, for xprof or Perfetto", default="")
    suite: bool = switch("the step and its parts, attention, input and heads; bench.json and bench.html in --workdir")
    json: str | None = flag("FILE", "write every figure, step by step, as JSON", default=None)


LINE = CommandLine("bench", __doc__, Arguments)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, run)


def run(asked: Arguments) -> int:
    """Times the subjects, or runs the suite, and writes the figures."""
    if asked.suite:
        return run_suite(asked)
    request = request_of(asked)
    limit_threads(asked.threads)
    content = json.dumps(benchmark(request), indent=1)
    if asked.json:
        storage.write_text_atomic(asked.json, content)
    if asked.workdir:
        storage.write_text_atomic(storage.ensure_writable(asked.workdir) / "bench.json", content)
    return 0


def run_suite(asked: Arguments) -> int:
    """Everything that one person can tell another of a machine. Raises ValueError without a place for it."""
    beside = [name for name in ("against", "rows", "profile", "json") if getattr(asked, name)]
    if beside or not asked.workdir:
        wrong = f"--{beside[0]} is given" if beside else "--workdir is missing"
        raise ValueError(f"--suite times one config and writes to --workdir=DIR; {wrong}.")
    config = pretrain_config(asked.config, asked.data, stand_in=SYNTHETIC)
    limit_threads(asked.threads)
    folder = storage.ensure_writable(asked.workdir)
    found = suite(config, asked.steps, lambda text: say("", text))
    storage.write_text_atomic(folder / "bench.json", json.dumps(found.as_json(), indent=1))
    storage.write_text_atomic(folder / "bench.html", as_html(found))
    print("\n".join(lines(found)))
    say("written", f"{folder}/bench.json and bench.html; docs/scale.md says how to send them")
    return 0


def request_of(asked: Arguments) -> Request:
    """The subjects and how to time them. Raises ValueError for a subject named twice."""
    ours = pretrain_config(asked.config, asked.data, stand_in=SYNTHETIC)
    configs = {OURS: ours}
    if asked.rows:
        teacher, known = ours.objective.teacher, all_rows()
        configs = {name: config_of(known[name], ours, teacher) for name in choose_rows(asked.rows)}
    for text in asked.against:
        name, overrides = read_subject(text)
        if name in configs:
            raise ValueError(f"--against={text}: there already is a subject {name!r}; give it another name.")
        changed = {given.partition("=")[0] for given in overrides}  # tuples given twice would add up
        kept = [given for given in asked.config if given.partition("=")[0] not in changed]
        configs[name] = pretrain_config([*kept, *overrides], asked.data, stand_in=SYNTHETIC)
    return Request(configs, asked.steps, asked.warmup, asked.profile)


def read_subject(text: str) -> tuple[str, list[str]]:
    """`NAME:a.b=VALUE,c.d=VALUE` as the name and flags; a comma within a value stays."""
    name, colon, fields = text.partition(":")
    parts = re.split(r",(?=[a-z_][\w.]*=)", fields)
    if not (name and colon and all(re.match(r"[a-z_][\w.]*=", p) for p in parts)):
        raise ValueError(
            f"--against={text} is not NAME:FIELD=VALUE,...; e.g. "
            "--against=plain:saliency.kind=none,loss.motion.alpha=0."
        )
    return name, [f"--config.{part}" for part in parts]


def limit_threads(threads: int) -> None:
    """Restricts this process to some cores, which JAX takes for all there are. Before it starts."""
    if not threads:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("--threads needs a system that can restrict a process to some cores, such as Linux.")
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(f"--threads is {threads}, but this process may use {len(cores)} cores; give at most that.")
    os.sched_setaffinity(0, cores[:threads])
