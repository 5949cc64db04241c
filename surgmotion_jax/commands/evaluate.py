"""`surgmotion evaluate --config=FILE[:ARG] --checkpoint=PATH --root=DIR --workdir=W [flags]`

Scores a frozen encoder on a benchmark: trains heads on its features, chooses one on validation cases, reports test
cases once. Repeating the command goes on where it was interrupted. Writes results.json, predictions.csv, report.html.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. evaluate/cholec80, evaluate/cholec80:small
  --checkpoint=PATH     a pretraining workdir, converted weights, or random:VARIANT[:SEED]
  --features=DIR        instead of a checkpoint: features of another encoder, a file a case with `features` and `time`
  --root=DIR            the data set, or tfds:FOLDER where one was built
  --workdir=W           features, heads and results go here
  --probe=W             score the chosen head of that evaluation instead of training heads
  --head=NAME           attentive, linear, knn, dense, temporal
  --fraction=F          train on this share of the training cases
  --protocol=P          which of the benchmark's splits or folds, or all folds of a kind: louo, loso, folds, crossval
  --recipe=NAME         ours, or released: windows, padding and resizing of the SurgMotion scripts
  --cache=KIND          pooled, tokens, none: what is kept on disk
  --weights=NAME        target (the moving average) or online
  --dtype=NAME          of the encoder: bfloat16 (default except on CPUs) or float32
  --attention=NAME      of the encoder: xla, cudnn, splash
  --config.a.b=VALUE    overrides a field, e.g. --config.sweep.epochs=2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from surgmotion_jax import config as door
from surgmotion_jax import storage

if TYPE_CHECKING:
    from surgmotion_jax.evaluate.config import EvaluateConfig
    from surgmotion_jax.evaluate.source import Source

SHORT = {
    "head": "probe.head",
    "fraction": "data.fraction",
    "protocol": "data.protocol",
    "recipe": "data.recipe",
    "cache": "cache.kind",
}
"""Flags that stand for a field of the config."""


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(n for n in door.config_names() if n.startswith("evaluate/")))
        return 0
    config, given = read_command_line(argv)
    from surgmotion_jax.checkpoints.lock import workdir_lock
    from surgmotion_jax.evaluate.folds import evaluate_protocol
    from surgmotion_jax.runs.evaluation_page import REPORT_FILE, write_page

    started = time.time()
    source = open_source(given)
    with workdir_lock(given.workdir):
        print(describe(config, source), flush=True)
        fields = evaluate_protocol(config, source, given.root, given.workdir, probe=given.probe or "", say=_say)
        write_run(given, argv, started)
        write_page(given.workdir)
    print("\n".join(table(fields)))
    print(f"{os.path.join(given.workdir, REPORT_FILE)}")
    return 0


def read_command_line(argv: Sequence[str]) -> tuple[EvaluateConfig, argparse.Namespace]:
    """The config and the flags. Raises ValueError for anything unknown or missing."""
    from surgmotion_jax.evaluate.config import EvaluateConfig

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name in ("checkpoint", "features", "root", "workdir", "probe", "weights", "dtype", "attention"):
        parser.add_argument(f"--{name}")
    shorts = [arg for arg in argv if arg.partition("=")[0][2:] in SHORT and "=" in arg]
    fields = {SHORT[arg.partition("=")[0][2:]]: arg.partition("=")[2] for arg in shorts}
    overrides = [f"--config.{field}={value}" for field, value in fields.items()]
    flags, rest = door.parse_flags([*(arg for arg in argv if arg not in shorts), *overrides])
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion evaluate --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r} (flags take =VALUE); see surgmotion evaluate --help.")
    for name in ("root", "workdir"):
        if not getattr(given, name):
            raise ValueError(f"no --{name} given; see surgmotion evaluate --help.")
    if bool(given.checkpoint) == bool(given.features):
        raise ValueError("give either --checkpoint=PATH or --features=DIR: one set of features is evaluated")
    return door.build(EvaluateConfig, flags), given


def open_source(given: argparse.Namespace) -> Source:
    """The encoder on every device of this process, or the folder of features."""
    import jax

    from surgmotion_jax.evaluate.encoder.frozen import load_encoder
    from surgmotion_jax.evaluate.source import Source

    if given.features:
        return Source(features=given.features)
    # CPUs compute bfloat16 slower than float32.
    dtype = given.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    return Source(
        load_encoder(
            given.checkpoint, weights=given.weights or "target", dtype=dtype, attention=given.attention or "xla"
        )
    )


def describe(config: EvaluateConfig, source: Source) -> str:
    """What is about to run."""
    data, who = config.data, source.identity
    name = f"encoder {who['name']} ({who['dtype']}, digest {who['digest'][:12]})" if source.encoder else str(who)
    return (
        f"{data.benchmark} ({data.protocol or 'first protocol'}), recipe {data.recipe}: {data.frames} frames at "
        f"{data.fps or 'spread'} fps, {data.size} px; head {config.probe.head}; {name}"
    )


def write_run(given: argparse.Namespace, argv: Sequence[str], started: float) -> None:
    """When and where this ran: what may differ between runs with equal results."""
    from surgmotion_jax.checkpoints.manifest import installed_versions
    from surgmotion_jax.evaluate.results import RUN_FILE

    fields: dict[str, Any] = {
        "command": ["surgmotion", "evaluate", *argv],
        "root": os.path.abspath(given.root),
        "started": started,
        "seconds": time.time() - started,
        "versions": installed_versions(),
    }
    storage.write_text_atomic(storage.as_path(given.workdir) / RUN_FILE, json.dumps(fields, indent=1) + "\n")


def table(fields: dict[str, Any]) -> list[str]:
    """The results as a person reads them, with the oracle beside them."""
    oracle = {(row["metric"], row["convention"]): row["value"] for row in fields["oracle"]["results"]}
    folds = f" over {len(fields['folds'])} folds" if "folds" in fields else ""
    lines = [
        f"{fields['title']}, protocol {fields['protocol']}: head {fields['chosen']['name']}, chosen on "
        f"{len(fields['cases']['val'])} validation cases{folds}; {len(fields['cases']['test'])} test cases{folds}",
        f"{'metric':<22}{'value':>9}  {'95 % interval' if _is_95(fields) else 'interval':<19}{'oracle':>9}  convention",
    ]
    for row in fields["chosen"]["results"]:
        interval = "none" if row["interval"] is None else "{:.4f} .. {:.4f}".format(*row["interval"])
        best = oracle.get((row["metric"], row["convention"]))
        beside = "" if best is None else f"{best:9.4f}"
        lines.append(f"{row['metric']:<22}{row['value']:>9.4f}  {interval:<19}{beside:>9}  {row['convention']}")
    lines += [f"undefined: {row['metric']}: {row['why']}" for row in fields["chosen"]["undefined"]]
    lines += [
        f"{row['metric']}: {row['interval_note']}" for row in fields["chosen"]["results"] if "interval_note" in row
    ]
    lines += [f"note: {note}" for note in fields["notes"]]
    lines.append(f"oracle: head {fields['oracle']['name']}; {fields['oracle']['note']}")
    return lines


def _is_95(fields: dict[str, Any]) -> bool:
    return bool(fields["config"]["report"]["level"] == 0.95)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
