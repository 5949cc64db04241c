"""The parts of a training step, by the scopes in the names of its operations, and its estimated time by part."""

from __future__ import annotations

import re

from surgmotion_jax.parallel.times import KernelCycles, ProgramTime, program_time
from surgmotion_jax.parallel.topology import Core

PARTS = (
    "prepare",
    "target encoder",
    "context, forward",
    "predictor, forward",
    "recomputed",
    "context, backward",
    "predictor, backward",
    "losses",
    "optimiser and the rest",
)
SCOPES = {"prepare": "prepare", "losses": "losses", "targets": "target encoder"}  # named in the step


def step_time(text: str, core: Core, flops: float, kernel_cycles: KernelCycles) -> ProgramTime | None:
    """The estimate of a compiled step, as `program_time` gives it, by part."""
    return program_time(text, core, flops, kernel_cycles, PARTS, part_of)


def part_of(op_name: str) -> str:
    """The part of the step that an operation belongs to, by the scopes of its name."""
    for scope, part in SCOPES.items():
        if re.search(rf"\b{scope}\b", op_name):
            return part
    model = "context" if "Encoder" in op_name else "predictor" if "Predictor" in op_name else ""
    model = model or ("predictor" if "PixelDecoder" in op_name else "")
    if not model:
        return "optimiser and the rest"
    if "rematted" in op_name:
        return "recomputed"
    if "transpose(" in op_name:
        return f"{model}, backward"
    return f"{model}, forward"
