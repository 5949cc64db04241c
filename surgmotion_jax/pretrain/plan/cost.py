"""What a training step costs, by arithmetic: operations, bytes kept for the gradient, bytes exchanged.

Operations are exact up to what `models/flops.py` leaves out. Bytes of activations are those that differentiation asks
for, not what a compiler makes of them; they are used where nothing is compiled: for GPUs, to order the candidates of a
sweep, and to say what a remedy would save.

Letters: N tokens of the grid, K context tokens, M target tokens, C width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.flops import embed_flops, encoder_flops, predictor_flops, trunk_flops
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.sample.masks import MaskProgram

WIDTH = {"float32": 4, "bfloat16": 2}  # bytes of the computation's dtype


@dataclass(frozen=True)
class StepFlops:
    """Operations of one step over all devices. MFU counts `model`; recomputed blocks come on top."""

    context: float  # encoder on the visible tokens, forward
    predictor: float  # forward
    target: float  # EMA encoder on all tokens, forward only
    backward: float
    losses: float
    prepare: float  # augmentation: two matrix products a frame
    recomputed: float  # forward once more, as `model.remat` asks

    @property
    def model(self) -> float:
        return self.context + self.predictor + self.target + self.backward + self.losses + self.prepare

    @property
    def hardware(self) -> float:
        return self.model + self.recomputed


def step_flops(config: PretrainConfig, programs: Sequence[MaskProgram]) -> StepFlops:
    """Operations of a step, the mean over mask programs: each step draws one of them, all equally likely."""
    each = [_program_flops(config, program) for program in programs]
    return StepFlops(*(sum(values) * config.optim.batch / len(each) for values in zip(*each, strict=True)))


def _program_flops(config: PretrainConfig, program: MaskProgram) -> tuple[float, ...]:
    model, sets = config.model, list(zip(program.contexts, program.targets, strict=True))
    head = config.objective.head_model(model)
    context = sum(encoder_flops(model, k) for k, _ in sets)
    predictor = sum(predictor_flops(head, k, m) for k, m in sets)
    target = 0 if config.objective.pixels else encoder_flops(model, config.grid.tokens)
    # Each product has two gradients; patches need none.
    backward = 2 * (context + predictor) - sum(embed_flops(model, k) for k, _ in sets)
    if not config.loss.stop_gradient:
        backward += 2 * target - embed_flops(model, config.grid.tokens)
    # Affinities of predictions and targets, both again for the gradient, and two gradients of the predictions'.
    compared = [min(m, config.loss.affinity.max_tokens or m) for _, m in sets] if config.loss.affinity.weight else []
    affinity = sum(6 * 2 * m * m * model.target_width for m in compared)
    (height, width), side = config.data.canvas, config.augment.crop
    prepare = 3 * config.data.frames * 2 * (side * height * width + side * side * width)
    again = sum(recomputed_flops(model.encoder, k) + recomputed_flops(head.predictor_trunk, k + m) for k, m in sets)
    return context, predictor, target, backward, affinity, prepare, again


def recomputed_flops(c: TransformerConfig, tokens: int) -> int:
    """Products of a stack that backward computes again, for one clip. No gradient asks for the MLP's own output."""
    logits = c.depth * 2 * tokens**2 * c.width
    # What attention computes again where its output is kept: XLA's its logits, cuDNN everything, splash nothing.
    attention = {"xla": logits, "splash": 0}.get(c.attention, 2 * logits)
    if c.remat == "none":
        return 0
    if c.remat == "dots":  # products inside a fused kernel are not seen, so the kernel runs again
        return 0 if c.attention == "xla" else 2 * logits
    if c.remat == "projections":
        return attention
    whole = trunk_flops(c, tokens) - c.depth * 2 * tokens * c.width * c.mlp
    return whole - 2 * logits + attention if c.remat == "attention" else whole


def kept_bytes(config: PretrainConfig, program: MaskProgram, clips: float) -> float:
    """Estimated bytes that forward keeps for backward on a device that holds `clips` clips of a micro-batch."""
    model = config.objective.head_model(config.model)
    kept = 0.0
    for k, m in zip(program.contexts, program.targets, strict=True):
        kept += trunk_bytes(model.encoder, k) + trunk_bytes(model.predictor_trunk, k + m)
        kept += m * model.target_width * 4 * 3  # prediction, target and their difference, float32
    patches = config.grid.tokens * model.patch_values * WIDTH[model.dtype]
    targets = config.grid.tokens * model.target_width * 4
    return clips * (kept + patches + targets)


def trunk_bytes(c: TransformerConfig, tokens: int) -> int:
    """Bytes that differentiation keeps of a stack of blocks and the norm after it, for one clip.

    Every block's input, and what `remat` keeps besides; see `models/derivatives.py` for what the operations ask for.
    The compiler may keep less, where it finds recomputing cheaper, or more, for buffers that do not fit together.
    """
    fused = c.attention != "xla"
    weights, sums = 4 * c.heads * tokens**2, 4 * c.heads * tokens  # of the softmax, float32
    norm = tokens * 4 * (c.width + 1)  # its normalised input and its scale, float32
    values, more = {
        "full": (c.width, 0),
        "attention": (2 * c.width, sums if fused else 0),
        "projections": (6 * c.width + c.mlp, sums if fused else 0),
        "dots": (5 * c.width + c.mlp, 0) if fused else (6 * c.width + c.mlp, weights),
        "none": (7 * c.width + 2 * c.mlp, sums + 2 * norm) if fused else (6 * c.width + 2 * c.mlp, weights + 2 * norm),
    }[c.remat]
    return c.depth * (tokens * values * WIDTH[c.dtype] + more) + norm


def working_bytes(config: PretrainConfig, program: MaskProgram, clips: float) -> float:
    """Estimated bytes of what lives briefly: one block of the target encoder, clips as floats, affinity rows."""
    model, tokens = config.objective.head_model(config.model), config.grid.tokens
    c = model.encoder
    block = tokens * (c.width * (4 + 4 + 5 * WIDTH[c.dtype]) + 2 * c.mlp * WIDTH[c.dtype])
    block += c.heads * tokens**2 * 6 if c.attention == "xla" else 0
    height, width = config.data.canvas
    floats = config.data.frames * 3 * 4 * (height * width + 3 * config.augment.crop**2)
    most, affinity = max(program.targets), config.loss.affinity
    compared = min(most, affinity.max_tokens or most) if affinity.weight else 0
    rows = 5 * 4 * compared * min(compared, affinity.rows)
    return clips * (floats + max(block, rows + 4 * most * model.target_width * 4))


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind along the same mesh axes, in one step on one device."""

    kind: str
    axes: tuple[str, ...]
    count: int
    bytes: float  # sent by one device


def expected_traffic(config: PretrainConfig, state: Any, mesh: Mapping[str, int]) -> tuple[Traffic, ...]:
    """What the rules imply: parameters gathered once a pass, gradients scattered once, then summed over `data`.

    `state` is the abstract state. Each micro-batch gathers and scatters anew.
    """
    shared, copies, parts = mesh["fsdp"], mesh["data"], config.optim.accumulate
    encoder, predictor = (_elements(state.params[name]) for name in ("encoder", config.objective.head))
    width, again = WIDTH[config.model.dtype], int(config.model.remat in ("full", "attention"))
    # Encoder on the context, its gradient, and, for features, the target encoder: a pass each.
    over_encoder = 2 + again + (not config.objective.pixels)
    passes = over_encoder * encoder + (2 + again) * predictor
    found = []
    if shared > 1:
        share = (shared - 1) / shared * width * parts / mesh["tensor"]
        found.append(Traffic("all-gather", ("fsdp",), parts * over_encoder, passes * share))
        found.append(Traffic("reduce-scatter", ("fsdp",), parts, (encoder + predictor) * share))
    if copies > 1:
        # In the computation's dtype too: shards are summed before they are widened for the optimiser.
        reduced = (encoder + predictor) * width / shared / mesh["tensor"] * parts
        found.append(Traffic("all-reduce", ("data",), parts, 2 * (copies - 1) / copies * reduced))
    if mesh["tensor"] > 1:
        tokens = config.grid.tokens * config.optim.batch / (shared * copies)
        blocks = 2 * config.model.encoder.depth * config.model.encoder.width
        each = 2 * (mesh["tensor"] - 1) / mesh["tensor"] * tokens * width
        found.append(Traffic("all-reduce", ("tensor",), 4 * config.model.encoder.depth, 2 * blocks * each))
    return tuple(found)


def _elements(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
