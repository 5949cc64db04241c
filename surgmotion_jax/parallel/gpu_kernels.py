"""Kernels of a program that XLA compiled for GPUs, counted by kind, with loops multiplied out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from surgmotion_jax.parallel.hlo import Instruction, loop_trips, parse_module, walk

TARGET = re.compile(r'custom_call_target="([^"]+)"')
LIBRARIES = {  # part of a call's target -> what a reader calls it
    "fmhaSoftmaxBackward": "cuDNN attention, backward",
    "fmhaSoftmax": "cuDNN attention, forward",
    "cublas": "cuBLAS products",
    "cudnn": "other cuDNN",
}
# Instructions that start nothing on the device.
NOTHING = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "optimization-barrier"),
)


def kernel_counts(text: str) -> Mapping[str, int]:
    """How often a kernel of each kind is started in one run of a compiled program, the most frequent first."""
    module, trips = parse_module(text), dict[str, int]()
    counts: Counter[str] = Counter()
    for _, instruction, loops, fused in walk(module):
        if not fused and instruction.opcode not in NOTHING and not instruction.opcode.endswith("-done"):
            counts[kind_of(instruction)] += math.prod(loop_trips(module, loop, trips, otherwise=1) for loop in loops)
    return dict(counts.most_common())


def kind_of(instruction: Instruction) -> str:
    """cuDNN attention, cuBLAS products, Triton, a loop, a collective, a copy, or the operation's own name."""
    if instruction.opcode == "custom-call":
        target = TARGET.search(instruction.attributes)
        name = target[1] if target else "unknown"
        return next((kind for part, kind in LIBRARIES.items() if part in name), name)
    if instruction.opcode == "fusion":
        return "Triton" if "__triton" in instruction.attributes else "loops and reductions"
    return instruction.opcode.removesuffix("-start")
