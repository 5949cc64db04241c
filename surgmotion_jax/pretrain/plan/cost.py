"""What a training step costs, by arithmetic: operations, bytes kept for the gradient, bytes exchanged.

Operations are exact up to what `models/flops.py` leaves out. Bytes of activations are those that differentiation asks
for, not what a compiler makes of them; they are used where nothing is compiled: for GPUs, to order the candidates of a
sweep, and to say what a remedy would save.

Letters: N tokens of the grid, K context tokens, M target tokens, C width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import product

import jax

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import TransformerConfig
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.image_branch import image_program, of_images
from surgmotion_jax.pretrain.losses.table import Active, active_terms, predicts_visible
from surgmotion_jax.pretrain.losses.term import Counts
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState

FRAGMENTS = 1.1  # memory taken over memory in use: buffers of unlike sizes do not fill each other's gaps
WIDTH = {"float32": 4, "bfloat16": 2}  # bytes of the computation's dtype


@dataclass(frozen=True)
class StepFlops:
    """Operations of one step over all devices. MFU counts `model`; recomputed blocks come on top."""

    context: float  # encoder on the visible tokens, forward
    predictor: float  # forward
    target: float  # the encoder that supplies targets on all tokens, forward only
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
    """Operations of a step, the mean over mask programs: each step draws one of them, all equally likely.

    Those of images, where there are some, are part of each figure.
    """
    each = [_program_flops(config, program) for program in programs]
    clips = [sum(values) * config.optim.batch / len(each) for values in zip(*each, strict=True)]
    if not config.images.batch:
        return StepFlops(*clips)
    images = step_flops(of_images(config), [image_program(of_images(config))])
    return StepFlops(*map(sum, zip(clips, astuple(images), strict=True)))


def _program_flops(config: PretrainConfig, program: MaskProgram) -> tuple[float, ...]:
    sets = list(zip(program.contexts, program.targets, strict=True))
    encoder, head = backbone_of(config.model), backbone_of(config.objective.head_model(config.model)).predictor
    contexts = [encoder.flops(k) for k, _ in sets]
    visible = predicts_visible(config.loss, config.objective.predicts)
    predictors = [head.flops(k, m, visible) for k, m in sets]
    context, predictor = (sum(one.forward for one in each) for each in (contexts, predictors))
    whole = backbone_of(config.target_model).flops(config.grid.tokens)
    target = 0 if config.objective.pixels else whole.forward
    # Each product has two gradients; patches need none.
    backward = 2 * (context + predictor) - sum(one.embed for one in contexts)
    if not config.objective.stop_gradient:
        backward += 2 * target - whole.embed
    losses = sum(active.term.flops(active.settings, each) for active, each in _terms_and_counts(config, program))
    (height, width), side = config.data.canvas, config.augment.crop
    prepare = 3 * config.data.frames * 2 * (side * height * width + side * side * width)
    again = sum(one.recomputed for one in (*contexts, *predictors))
    return context, predictor, target, backward, losses, prepare, again


def _terms_and_counts(config: PretrainConfig, program: MaskProgram) -> list[tuple[Active, Counts]]:
    """Every term of the loss with the numbers of every mask set."""
    width = config.objective.head_model(config.model).target_width
    sets = zip(program.contexts, program.targets, strict=True)
    counts = [Counts(context, target, config.grid.tokens, width) for context, target in sets]
    return list(product(active_terms(config.loss, config.objective.predicts), counts))


def kept_bytes(config: PretrainConfig, program: MaskProgram, clips: float) -> float:
    """Estimated bytes that forward keeps for backward on a device that holds `clips` clips of a micro-batch.

    With them it holds its share of the images.
    """
    kept = _kept_of_clips(config, program, clips)
    if not config.images.batch:
        return kept
    single = of_images(config)
    return kept + _kept_of_clips(single, image_program(single), clips * config.images.batch / config.optim.batch)


def _kept_of_clips(config: PretrainConfig, program: MaskProgram, clips: float) -> float:
    model = config.objective.head_model(config.model)
    kept = 0.0
    for k, m in zip(program.contexts, program.targets, strict=True):
        kept += trunk_bytes(model.encoder, k) + trunk_bytes(model.predictor_trunk, k + m)
        predicted = m + k * predicts_visible(config.loss, config.objective.predicts)
        kept += predicted * model.target_width * 4 * 3  # prediction, target and their difference, float32
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
    """Estimated bytes of what lives briefly: one block of the target encoder, clips as floats, the largest term's."""
    model = config.objective.head_model(config.model)
    block = block_forward_bytes(model.encoder, config.grid.tokens)
    height, width = config.data.canvas
    floats = config.data.frames * 3 * 4 * (height * width + 3 * config.augment.crop**2)
    held = [active.term.working_bytes(active.settings, each) for active, each in _terms_and_counts(config, program)]
    return clips * (floats + max(block, max(held) + 4 * max(program.targets) * model.target_width * 4))


def temporary_bytes(
    config: PretrainConfig, program: MaskProgram, clips: float, gradients: float, gathered: float = 0.0
) -> float:
    """Estimated bytes that a step makes on a GPU at its fullest moment, beyond its arguments.

    That moment is one of four: the target encoder at work, the loss, or backward through a block of the predictor or of
    the encoder. By the last one `gradients`, float32, lie there too, in a copy or two. What is kept for images counts
    in all of them.

    Args:
        config: what is trained.
        program: the mask program.
        clips: of a micro-batch, on the device.
        gradients: their bytes, with copies.
        gathered: bytes of a block's weights where they are sharded. The block after it is gathered meanwhile, and the
            target encoder runs when the others have kept what they keep, so that gathering hides behind their work.
    """
    images = kept_bytes(config, program, clips) - _kept_of_clips(config, program, clips)
    model = config.objective.head_model(config.model)
    sets = list(zip(program.contexts, program.targets, strict=True))
    encoder = clips * sum(trunk_bytes(model.encoder, k) for k, _ in sets)
    kept = encoder + clips * sum(trunk_bytes(model.predictor_trunk, k + m) for k, m in sets)
    targets = clips * block_forward_bytes(model.encoder, config.grid.tokens) + kept if gathered else 0.0
    moments = (
        max(targets, working_bytes(config, program, clips)),
        _kept_of_clips(config, program, clips),
        kept + clips * max(block_backward_bytes(model.predictor_trunk, k + m) for k, m in sets),
        encoder + clips * max(block_backward_bytes(model.encoder, k) for k, _ in sets) + gradients,
    )
    return FRAGMENTS * (images + max(moments) + 2 * gathered)


def block_forward_bytes(c: TransformerConfig, tokens: int) -> int:
    """Bytes that live while one block runs, for one clip: tokens in and normed, q, k, v, hidden units, the softmax."""
    softmax = 6 * c.heads * tokens**2 if c.attention == "xla" else 0
    return tokens * (c.width * (4 + 4 + 5 * WIDTH[c.dtype]) + 2 * c.mlp * WIDTH[c.dtype]) + softmax


def block_backward_bytes(c: TransformerConfig, tokens: int) -> int:
    """Bytes that live while one block is differentiated, for one clip: hidden units, tokens, weights of the softmax."""
    softmax = 10 * c.heads * tokens**2 if c.attention == "xla" else 0  # as float32 twice, and in bfloat16
    return tokens * WIDTH[c.dtype] * (4 * c.mlp + 10 * c.width) + softmax


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind along the same mesh axes, in one step on one device."""

    kind: str
    axes: tuple[str, ...]
    count: int
    bytes: float  # sent by one device


def expected_traffic(config: PretrainConfig, state: TrainState, mesh: Mapping[str, int]) -> tuple[Traffic, ...]:
    """What the rules imply: parameters gathered once a pass, gradients scattered once, then summed over `data`.

    `state` is the abstract state. Each micro-batch gathers and scatters anew.
    """
    shared, copies, parts = mesh["fsdp"], mesh["data"], config.optim.accumulate
    parts *= 2 if config.images.batch else 1  # clips and images pass through the networks one after the other
    encoder, predictor = (_elements(state.params[name]) for name in ("encoder", config.objective.head))
    supplier = 0 if config.objective.pixels else _elements(config.objective.source.supplier(state))
    width, again = WIDTH[config.model.dtype], int(config.model.remat in ("full", "attention"))
    # Encoder on the context, its gradient, and, for features, the encoder of the targets: a pass each.
    over_encoder = 2 + again + (supplier > 0)
    passes = (2 + again) * (encoder + predictor) + supplier
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


def _elements(tree: Params) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
