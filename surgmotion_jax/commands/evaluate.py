"""Scores an encoder on a benchmark.

Trains heads on its features, or with --finetune encoder and head together, chooses one on validation cases, reports
test cases once. Repeating the command goes on
where it was interrupted. Writes results.json, predictions.csv, report.html.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag, shorthand
from surgmotion_jax.commands.configs import evaluate_config
from surgmotion_jax.evaluate.results import Results
from surgmotion_jax.pages.evaluation import REPORT_FILE
from surgmotion_jax.runs.evaluation import describe, evaluate_source, open_source


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags(
        "evaluation", "a config file or the name of a shipped one, e.g. evaluate/cholec80, evaluate/cholec80:small"
    )
    checkpoint: str | None = flag(
        "PATH", "a pretraining workdir, converted weights, or random:VARIANT[/PATCH][:SEED]", default=None
    )
    features: str | None = flag(
        "DIR",
        "instead of a checkpoint: features of another encoder, a file a case with `features` and `time`",
        default=None,
    )
    root: str = flag("DIR", "the data set, or tfds:FOLDER where one was built")
    workdir: str = flag("W", "features, heads and results go here")
    probe: str = flag("W", "score the chosen head of that evaluation instead of training heads", default="")
    head: str | None = shorthand(
        "NAME", "attentive, linear, knn, dense, patch_linear, temporal; constant: chance", "probe.head"
    )
    finetune: str | None = shorthand(
        "PART",
        "train the encoder with the head: full, or last:N blocks (default: none, it stays frozen)",
        "finetune.blocks",
    )
    fraction: str | None = shorthand("F", "train on this share of the training cases", "data.fraction")
    protocol: str | None = shorthand(
        "P", "of the benchmark's splits or folds, or all folds of a kind: louo, loso, folds, crossval", "data.protocol"
    )
    recipe: str | None = shorthand(
        "NAME", "ours, or released: windows, padding and resizing of the SurgMotion scripts", "data.recipe"
    )
    cache: str | None = shorthand("KIND", "pooled, tokens, none: what is kept on disk", "cache.kind")
    weights: Literal["target", "online"] = flag(
        "NAME", "the moving average (target) or the online encoder", default="target"
    )
    dtype: str = flag("NAME", "of the encoder: bfloat16 (default except on CPUs) or float32", default="")
    attention: str = flag("NAME", "of the encoder: auto, xla, cudnn, splash, fused", default="auto")

    def __post_init__(self) -> None:
        if bool(self.checkpoint) == bool(self.features):
            raise ValueError("give either --checkpoint=PATH or --features=DIR: one set of features is evaluated")


LINE = CommandLine("evaluate", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, lambda request: evaluate(request, argv))


def evaluate(request: Request, argv: Sequence[str]) -> int:
    """Runs the evaluation in its workdir; `argv` is kept beside the results."""
    config = evaluate_config(request.config)
    source = open_source(
        request.checkpoint or "", request.features or "", request.weights, request.dtype, request.attention
    )
    print(describe(config, source), flush=True)
    command = ["surgmotion", "evaluate", *argv]
    results = evaluate_source(
        config, source, request.root, request.workdir, probe=request.probe, command=command, say=_say
    )
    print("\n".join(table(results)))
    print(f"{os.path.join(request.workdir, REPORT_FILE)}")
    return 0


def table(fields: Results) -> list[str]:
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


def _is_95(fields: Results) -> bool:
    return bool(fields["config"]["report"]["level"] == 0.95)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
