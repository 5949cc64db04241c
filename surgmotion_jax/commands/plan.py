"""Compiles the programs of a config for a TPU slice, without one, and says what the run would take.

Memory per device, operations, communication, step time by the compiler's estimate (or at --mfu), decoding per host,
chip-hours. Needs no data.
A slice is a generation and its shape: v4, v5e, v5p or v6e, such as v5e:16x16 or v5p:4x4x8. For GPUs such as gpu:h100x8
(also a100, h100-pcie, h200, b200 and others) the step is compiled where JAX's CUDA plugin is installed (the extra
gpu-plan; it needs no GPU) and knows them; elsewhere everything is an estimate.

With an evaluation config and --encoder it compiles the frozen encoder and a step of all heads instead: at once, one
after the other, or both, as sweep.strategy says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgmotion_jax import storage
from surgmotion_jax.commands.command_line import CommandLine, config_flags, flag, switch
from surgmotion_jax.parallel.topology import check_compiled, describe, devices_of, set_environment, with_compiler

if TYPE_CHECKING:
    from surgmotion_jax.runs.planning import Planned


@dataclass(frozen=True)
class Arguments:
    """What the command line asks for."""

    config: tuple[str, ...] = config_flags(
        "pretraining", "a config file or the name of a shipped one; with --encoder one of an evaluation"
    )
    topology: str = flag("NAME", "a TPU slice such as v5e:4x4, or GPUs such as gpu:h100x8")
    mfu: float | None = flag("SHARE", "model operations as a share of the peak, for every time", default=None)
    encoder: str = flag("NAME", "of an evaluation: VARIANT[/PATCH], such as vit_large or vit_nano/8", default="")
    sweep: bool = switch("compare meshes, remat policies and clips a device, and name the best")
    compilations: int = flag("N", "how many candidates of a sweep are compiled at most, minutes each", default=4)
    json: str | None = flag("FILE", "write the plan, or the trials of a sweep, as JSON too", default=None)

    def __post_init__(self) -> None:
        if self.encoder and (self.sweep or self.mfu is not None):
            raise ValueError("--sweep and --mfu are for pretraining; leave them out where --encoder is given")


LINE = CommandLine("plan", __doc__, Arguments)


def main(argv: Sequence[str]) -> int:
    return LINE.run(argv, run)


def run(asked: Arguments) -> int:
    """Plans, and returns 1 if the plan, or the best of a sweep, does not fit."""
    set_environment(os.environ)
    # Only now: these import JAX, which reads the environment once, when it is imported.
    from surgmotion_jax.commands.configs import evaluate_config, kind_asked, pretrain_config
    from surgmotion_jax.runs import planning
    from surgmotion_jax.runs.evaluation_plan import run_evaluation_plan

    topology = with_compiler(describe(asked.topology))
    if asked.encoder:
        evaluation = evaluate_config(asked.config)
        check_compiled(topology)
        planned = run_evaluation_plan(evaluation, asked.encoder, topology, devices_of(topology))
        return _written(planned, asked.json)
    if kind_asked(asked.config) == "evaluation":
        raise ValueError("the plan of an evaluation needs the encoder; add --encoder=VARIANT[/PATCH], as vit_large")
    config = pretrain_config(asked.config, stand_in=planning.STAND_IN)
    devices = devices_of(topology) if topology.compiled else ()
    if asked.sweep:
        planned = planning.run_sweep(config, topology, devices, asked.mfu, asked.compilations)
    else:
        planned = planning.run_plan(config, topology, devices, asked.mfu)
    return _written(planned, asked.json)


def _written(planned: Planned, path: str | None) -> int:
    if path:
        storage.write_text_atomic(path, json.dumps(planned.content, indent=1))
    return 0 if planned.fits else 1
