"""`surgmotion export CHECKPOINT OUT [flags]`: an encoder as one StableHLO program for any number of clips.

Writes OUT and OUT.json (shapes, digest, platforms). The program takes uint8 RGB clips [B, frames, size, size, 3] and
returns tokens [B, t, h, w, D]; load it with `surgmotion_jax.evaluate.encoder.exported.load_exported`, or `jax.export`.
Weights are constants inside it, so that one file is enough; above 2 GB, which the format cannot hold, give
--weights-as-arguments: they come first among the arguments, and are written to OUT.npz. The program is loaded back and
compared with the direct call before anything is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser("surgmotion export", description=__doc__, formatter_class=form, allow_abbrev=False)
    p.add_argument("checkpoint", help="workdir, weights, or random:VARIANT[:SEED]")
    p.add_argument("out", help="file to write, e.g. encoder.stablehlo")
    p.add_argument("--weights", default="target", choices=("target", "online"), help="moving average, or online")
    p.add_argument("--frames", type=int, default=16, help="frames per clip (16)")
    p.add_argument("--size", type=int, default=256, help="rows and columns, pixels (256)")
    p.add_argument("--dtype", default="float32", help="of the computation: float32 or bfloat16")
    p.add_argument("--platforms", default="cpu,cuda,tpu", help="where it is to run (cpu,cuda,tpu)")
    p.add_argument("--weights-as-arguments", action="store_true", help="weights beside the program, not in it")
    given = p.parse_args(argv)
    return run(given)


def run(given: argparse.Namespace) -> int:
    import jax

    from surgmotion_jax import storage
    from surgmotion_jax.evaluate.encoder.exported import ExportSettings, export_encoder
    from surgmotion_jax.evaluate.encoder.frozen import load_encoder

    platforms = tuple(given.platforms.split(","))
    settings = ExportSettings(given.frames, given.size, platforms, given.weights_as_arguments)
    storage.ensure_writable(storage.as_path(given.out).parent)
    encoder = load_encoder(given.checkpoint, weights=given.weights, dtype=given.dtype, devices=jax.local_devices()[:1])
    told = export_encoder(encoder, given.out, settings)
    checked = told["checked"]
    print(f"input   uint8 {told['input']['shape']}")
    print(f"output  float32 {told['output']['shape']}")
    print(f"checked at {checked['batches']} clips: relative error {checked['relative_error']:.2g} to the direct call")
    print(f"export: {given.out} (weights {told['weights']['where']}; for {', '.join(told['platforms'])})")
    return 0
