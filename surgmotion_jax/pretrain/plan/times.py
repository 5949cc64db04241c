"""The parts of a training step, by the scopes in the names of its operations."""

from __future__ import annotations

import re

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
