"""`surgmotion bench --config=FILE[:ARG] [--steps=N] [--against=NAME:a.b=VALUE,...] [--peer=torch] [--config.a.b=VALUE]`

Times the training step: clips a second, where its time goes, memory, MFU where the peak is known. Every figure is a
median over steps, with its quartiles. Several subjects take turns step by step, in one process, so that what the
machine does meanwhile falls on all of them.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. bench/peer_tiny
  --data=PATH           real clips from a video, folder, glob or CSV; without it, and without data.sources in the
                        config, synthetic ones that are in memory already
  --workdir=DIR         also writes the figures to DIR/bench.json
  --steps=N             rounds that count (default 20)
  --warmup=N            rounds before them that do not (default 3)
  --against=NAME:a.b=VALUE,c.d=VALUE
                        another subject: the same config with these fields changed; may be repeated
  --peer=torch          another subject: the same work from transformers' modules. Both get normalised clips and token
                        numbers, and do nothing that the other does not: no augmentation, no drawing of masks
  --peer_compile        has torch.compile compile the peer
  --counts=K/M,...      with a peer: context/target tokens of each mask set (default: those of the config's masks)
  --threads=N           CPU threads of every subject (default: as many as there are cores)
  --profile=DIR         writes a trace of three steps of the first subject, for xprof or Perfetto
  --json=FILE           writes every figure, step by step, as JSON
  --config.a.b=VALUE    overrides a field, e.g. --config.optim.batch=8
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.runs.benchmark import OURS, PEER, PEERS, SYNTHETIC, Request, benchmark
from surgmotion_jax.runs.configuration import with_data, without_inputs


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    given, request = read_command_line(argv)
    limit_threads(given.threads)
    content = json.dumps(benchmark(request), indent=1)
    if given.json:
        storage.write_text_atomic(given.json, content)
    if given.workdir:
        storage.write_text_atomic(storage.ensure_writable(given.workdir) / "bench.json", content)
    return 0


def read_command_line(argv: Sequence[str]) -> tuple[argparse.Namespace, Request]:
    """Raises ValueError for anything unknown, for a subject named twice, and for flags that need a peer."""
    flags = [a for a in argv if re.match(r"--config[=.]", a)]
    given = parse_rest([a for a in argv if a not in flags])
    configs = {OURS: build_config(flags, given.data)}
    for text in given.against:
        name, overrides = read_subject(text)
        if name in (*configs, PEER):
            raise ValueError(f"--against={text}: there already is a subject {name!r}; give it another name.")
        changed = {flag.partition("=")[0] for flag in overrides}  # tuples given twice would add up
        configs[name] = build_config(
            [*(f for f in flags if f.partition("=")[0] not in changed), *overrides], given.data
        )
    asked = given.steps, given.warmup, given.peer or "", given.peer_compile, given.counts or "", given.profile or ""
    return given, Request(configs, *asked)


def parse_rest(rest: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="surgmotion bench", add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in ("--data", "--workdir", "--peer", "--counts", "--profile", "--json"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--against", action="append", default=[])
    parser.add_argument("--peer_compile", action="store_true")
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion bench --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion bench --help.")
    check_rest(given)
    return given


def check_rest(given: argparse.Namespace) -> None:
    at_least("--steps", given.steps, 1)
    at_least("--warmup", given.warmup, 1)  # the first step of a program is no measure of the others
    at_least("--threads", given.threads, 0)
    if given.peer is not None:
        one_of("--peer", given.peer, PEERS)
        if given.data or given.against:
            raise ValueError("--peer compares on given clips and masks; leave out --data and --against.")
    elif given.counts or given.peer_compile:
        raise ValueError("--counts and --peer_compile are for a peer; add --peer=torch, or leave them out.")


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


def build_config(flags: Sequence[str], data: str | None) -> PretrainConfig:
    """The config of a subject. Neither data nor weights to start from need to be there."""
    config, _ = door.parse_flags(flags)
    return without_inputs(with_data(config, data) if data else config, SYNTHETIC)


def limit_threads(threads: int) -> None:
    """Restricts this process to some cores, which JAX and PyTorch both take for all there are. Before either starts."""
    if not threads:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("--threads needs a system that can restrict a process to some cores, such as Linux.")
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(f"--threads is {threads}, but this process may use {len(cores)} cores; give at most that.")
    os.sched_setaffinity(0, cores[:threads])
