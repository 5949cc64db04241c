"""How many cycles a kernel takes, by formula: the TPU compiler writes no estimate for one.

The formula is fitted to the kernels' static schedules, as the compiler dumps them: bundles, times the trips of their
loops, at 392, 1,024 and 1,568 tokens (libtpu 0.0.42.1, November 2026). It is off by 7 % at most there. Nothing ran.

Letters: B clips, N tokens, G groups of heads, Q queries with their padding, D head dimension.
"""

from __future__ import annotations

import math
import re

from surgmotion_jax.models.kernels.calls import BACKWARD, FORWARD
from surgmotion_jax.models.kernels.tiles import LANES, Tiles

# Cycles of a group of heads of a clip: so many for a token, and so many for a thousand logits of a head.
SCHEDULED: dict[str, dict[tuple[str, int], tuple[float, float]]] = {
    "TPU v5e": {
        (FORWARD, 32): (3.32, 2.5),
        (FORWARD, 64): (1.77, 3.38),
        (FORWARD, 128): (0.8, 6.28),
        (BACKWARD, 32): (4.41, 5.87),
        (BACKWARD, 64): (3.34, 7.51),
        (BACKWARD, 128): (3.27, 10.72),
    },
    "TPU v5p": {
        (FORWARD, 32): (3.39, 2.5),
        (FORWARD, 64): (1.91, 3.37),
        (FORWARD, 128): (1.05, 6.02),
        (BACKWARD, 32): (4.89, 5.81),
        (BACKWARD, 64): (3.63, 7.5),
        (BACKWARD, 128): (3.31, 11.02),
    },
    "TPU v6e": {
        (FORWARD, 32): (1.52, 2.3),
        (FORWARD, 64): (1.99, 2.18),
        (FORWARD, 128): (0.0, 6.61),
        (BACKWARD, 32): (6.21, 3.86),
        (BACKWARD, 64): (4.48, 4.43),
        (BACKWARD, 128): (3.54, 5.59),
    },
}
CORES = {"TPU v5p": 2}
"""Cores of a chip that share a kernel's clips, or a single clip's groups: the schedule of a v5p turns half as often."""

NAME = re.compile(rf"({FORWARD}|{BACKWARD})_(\d+)")
OUTPUT = re.compile(r"bf16\[((?:\d+,)+)(\d+),(\d+)\]")


def kernel_cycles(name: str, shape: str, chip: str) -> float | None:
    """Cycles of one run of the kernel `name` whose results have this HLO shape; None for a kernel that is not ours.

    `chip` is the name of a generation, as 'TPU v5e'; one without coefficients gives None as well, and so does float32,
    for which there is no schedule. Axes before the clips, as of several heads at once, count as clips.
    """
    kernel, output = NAME.search(name), OUTPUT.search(shape)
    if not (kernel and output and chip in SCHEDULED):
        return None
    direction, head_dim = kernel[1], int(kernel[2])
    clips = math.prod(int(size) for size in output[1].split(",") if size)
    tokens, width = int(output[2]), int(output[3])
    groups = width // (LANES if direction == FORWARD else 3 * LANES)
    by_token, by_logits = SCHEDULED[chip][direction, head_dim]
    tiles = Tiles(tokens, head_dim)
    logits = tiles.heads * tiles.queries * tokens
    cores = CORES.get(chip, 1)
    turns = -(-groups // cores) if clips == 1 else -(-clips // cores) * groups
    return turns * (by_token * tokens + by_logits * logits / 1000)
