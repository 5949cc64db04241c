"""Writes an encoder as one StableHLO program for any number of clips.

Writes OUT and OUT.json (shapes, digest, platforms). The program takes uint8 RGB clips [B, frames, size, size, 3] and
returns tokens [B, t, h, w, D]; load it with `surgmotion_jax.evaluate.encoder.exported.load_exported`, or `jax.export`.
Weights are constants inside it, so that one file is enough; above 2 GB, which the format cannot hold, give
--weights-as-arguments: they come first among the arguments, and are written to OUT.npz. The program is loaded back and
compared with the direct call before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, comma_list, flag, positional, switch
from surgmotion_jax.evaluate.encoder.exported import ExportSettings, export_encoder
from surgmotion_jax.evaluate.encoder.frozen import load_encoder


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    checkpoint: str = positional("CHECKPOINT", "workdir, weights, or random:VARIANT[/PATCH][:SEED]")
    out: str = positional("OUT", "file to write, e.g. encoder.stablehlo")
    weights: Literal["target", "online"] = flag(
        "NAME", "the moving average (target) or the online encoder", default="target"
    )
    frames: int = flag("T", "frames per clip", default=16, least=1)
    size: int = flag("P", "rows and columns, pixels", default=256, least=1)
    dtype: str = flag("NAME", "of the computation: float32 or bfloat16", default="float32")
    platforms: tuple[str, ...] = flag(
        "A,B", "where it is to run: cpu, cuda, rocm, tpu", default=("cpu", "cuda", "tpu"), read=comma_list
    )
    weights_as_arguments: bool = switch("weights beside the program, not in it")


LINE = CommandLine("export", __doc__, Request)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, export)


def export(request: Request) -> int:
    settings = ExportSettings(request.frames, request.size, request.platforms, request.weights_as_arguments)
    storage.ensure_writable(storage.as_path(request.out).parent)
    devices = jax.local_devices()[:1]
    # XLA's own attention is the one that every platform of a program has.
    encoder = load_encoder(
        request.checkpoint, weights=request.weights, dtype=request.dtype, attention="xla", devices=devices
    )
    told = export_encoder(encoder, request.out, settings)
    checked = told["checked"]
    print(f"input   uint8 {told['input']['shape']}")
    print(f"output  float32 {told['output']['shape']}")
    print(f"checked at {checked['batches']} clips: relative error {checked['relative_error']:.2g} to the direct call")
    print(f"export: {request.out} (weights {told['weights']['where']}; for {', '.join(told['platforms'])})")
    return 0
