"""How many cycles a kernel takes, by formula: the TPU compiler writes no estimate for one.

The formula is fitted to the kernels' static schedules, as the compiler dumps them: bundles, times the trips of their
loops. Nothing ran. `SCHEDULED` are the coefficients, for each generation, direction and head dimension.

Letters: B clips, N tokens, G groups of heads, Q queries with their padding, D head dimension.
"""

from __future__ import annotations

import re

from surgmotion_jax.models.kernels.calls import BACKWARD, FORWARD
from surgmotion_jax.models.kernels.tiles import LANES, Tiles

# Cycles of a group of heads of a clip: so many for a token, and so many for a thousand logits of a head.
SCHEDULED: dict[str, dict[tuple[str, int], tuple[float, float]]] = {}
NAME = re.compile(rf"({FORWARD}|{BACKWARD})_(\d+)")
OUTPUT = re.compile(r"[a-z]\w*\[(\d+),(\d+),(\d+)\]")


def kernel_cycles(name: str, shape: str, chip: str) -> float | None:
    """Cycles of one run of the kernel `name` whose results have this HLO shape; None for a kernel that is not ours.

    `chip` is the name of a generation, as 'TPU v5e'; one without coefficients gives None as well.
    """
    kernel, output = NAME.search(name), OUTPUT.search(shape)
    if not (kernel and output and chip in SCHEDULED):
        return None
    direction, head_dim = kernel[1], int(kernel[2])
    clips, tokens, width = map(int, output.groups())
    groups = width // (LANES if direction == FORWARD else 3 * LANES)
    by_token, by_logits = SCHEDULED[chip][direction, head_dim]
    tiles = Tiles(tokens, head_dim)
    logits = tiles.heads * tiles.queries * tokens
    return clips * groups * (by_token * tokens + by_logits * logits / 1000)
