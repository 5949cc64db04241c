"""`surgmotion plan --config=FILE[:ARG] --topology=NAME [--sweep] [--mfu=0.4] [--json=FILE] [--config.a.b=VALUE ...]`

Compiles the training step of a config for a TPU slice, without one, and says what the run would take: memory per
device, operations, communication, step time at a stated MFU, decoding per host, chip-hours. Needs no data.

  --config=FILE[:ARG]   a config file or the name of a shipped one, e.g. pretrain/surgmotion_vitl:stage1
  --topology=NAME       v4, v5e, v5p or v6e and the slice's shape, e.g. v5e:16x16, v5p:4x4x8; or gpu:h100x8 (also a100,
                        h100-pcie, h200, b200 and others), for which nothing is compiled and everything is an estimate
  --mfu=SHARE           model operations as a share of the peak, for every time (default 0.4)
  --sweep               compares meshes, remat policies and clips a device, and names the best
  --compilations=N      how many candidates of a sweep are compiled at most, minutes each (default 4)
  --json=FILE           writes the plan, or the trials of a sweep, as JSON too
  --config.a.b=VALUE    overrides a field, e.g. --config.parallel.fsdp=16 --config.model.attention=splash
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from surgmotion_jax import config as door
from surgmotion_jax import storage
from surgmotion_jax.parallel.topology import describe, devices_of, set_environment


def main(argv: Sequence[str]) -> int:
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        print("shipped configs:", ", ".join(door.config_names()))
        return 0
    set_environment(os.environ)
    from surgmotion_jax.runs import planning  # imports JAX, which reads the environment once, when it is imported
    from surgmotion_jax.runs.configuration import without_inputs

    flags, given = read_command_line(argv)
    config = without_inputs(flags, "planned")
    topology = describe(given.topology)
    devices = devices_of(topology) if topology.compiled else ()
    if given.sweep:
        planned = planning.run_sweep(config, topology, devices, given.mfu, given.compilations)
    else:
        planned = planning.run_plan(config, topology, devices, given.mfu)
    if given.json:
        storage.write_text_atomic(given.json, json.dumps(planned.content, indent=1))
    return 0 if planned.fits else 1


def read_command_line(argv: Sequence[str]) -> tuple[door.ConfigDict, argparse.Namespace]:
    """The config and the other flags."""
    flags, rest = door.parse_flags(argv)
    parser = argparse.ArgumentParser(prog="surgmotion plan", add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--topology")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--compilations", type=int, default=4)
    parser.add_argument("--json")
    try:
        given, unknown = parser.parse_known_args(rest)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}; see surgmotion plan --help.") from None
    if unknown:
        raise ValueError(f"unknown argument {unknown[0]!r}; see surgmotion plan --help.")
    if not given.topology:
        raise ValueError("no --topology=NAME given; name a slice such as v5e:4x4, or GPUs such as gpu:h100x8.")
    return flags, given
