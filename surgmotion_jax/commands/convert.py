"""Reads released or own weights and writes them in our format, or as a directory that transformers loads.

SRC is a .pt file (V-JEPA 2, V-JEPA 2.1, SurgMotion, an attentive probe), a safetensors file, a transformers directory,
or a workdir, checkpoint or converted directory of ours.

No pickle is executed. What became of every name of the source is printed and stored. Weights that are not finite are
refused, by the tensor's name.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgmotion_jax.checkpoints.foreign import accounting
from surgmotion_jax.checkpoints.foreign.convert import prepare, refuse_existing, write
from surgmotion_jax.checkpoints.foreign.described import Hints
from surgmotion_jax.checkpoints.foreign.source import Clips, open_source
from surgmotion_jax.commands.command_line import CommandLine, flag, positional, switch
from surgmotion_jax.models.config import POSITIONS


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    source: str = positional("SRC", "weights to read")
    destination: str = positional("DST", "directory to write; must not exist")
    to: Literal["surgmotion", "transformers"] = flag("FORMAT", "surgmotion or transformers", default="surgmotion")
    weights: Literal["target", "online"] | None = flag(
        "NAME",
        "keep one encoder only: the moving average (target; what transformers gets by default) or the online one",
        default=None,
    )
    dry_run: bool = switch("check and print everything, write nothing")
    heads: int | None = flag("N", "attention heads, where shapes and tables do not tell", default=None, least=1)
    predictor_heads: int | None = flag("N", "the predictor's heads, likewise", default=None, least=1)
    probe_heads: int | None = flag("N", "the probe's heads (default: 16, or the config's)", default=None, least=1)
    positions: str | None = flag(
        "NAME", "position code, where it is not the release's", default=None, choices=POSITIONS
    )
    crop: int | None = flag("P", "side in pixels of the clips that the weights were trained on", default=None, least=1)
    frames: int | None = flag("T", "their number of frames", default=None, least=1)


LINE = CommandLine("convert", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, convert)


def convert(request: Request) -> int:
    """Reads, checks, prints, writes. Raises ValueError, with nothing written, for whatever cannot be converted."""
    refuse_existing(request.destination)
    hints = Hints(request.heads or 0, request.predictor_heads or 0, request.probe_heads or 0, request.positions or "")
    source = open_source(request.source, hints, Clips(request.crop or 0, request.frames or 0))
    say("source", f"{request.source}: {source.foreign.title} ({source.format})")
    for line in source.described.told:
        say(*line.split(": ", 1))
    conversion = prepare(source, request.to, request.weights or "")
    plan = conversion.plan
    for note in plan.notes:
        say("note", note)
    say("accounting", accounting.summary(plan.entries))
    print(*(f"  {line}" for line in accounting.table(plan.entries)), sep="\n", flush=True)
    say("sha256", source.sha256())
    if request.dry_run:
        say("dry run", f"{plan.nbytes / 1e9:.3f} GB would be written to {request.destination}")
        return 0
    started = time.monotonic()
    write(conversion, request.destination, lambda text: say("converting", text))
    say("written", f"{request.destination}: {plan.nbytes / 1e9:.3f} GB in {time.monotonic() - started:.1f} s")
    return 0


def say(label: str, text: str) -> None:
    print(f"{label:>12}  {text}", flush=True)
