"""The same work for every implementation: a step of ours from clips already normalised and token numbers already drawn.

Letters: B batch, N tokens, K context tokens, M target tokens.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import Grid
from surgmotion_jax.parallel.mesh import MeshLayout
from surgmotion_jax.pretrain.bench.steps import Counts, OurStep, compilation_of, repeated
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import Prepared, TargetWeights, loss_and_metrics
from surgmotion_jax.pretrain.sample.masks import MaskProgram, MaskSet
from surgmotion_jax.pretrain.state import TrainState, abstract_state, create_state, shardings_of
from surgmotion_jax.pretrain.step import Metrics, resolve, update


class Given(NamedTuple):
    """Clips and masks as they come to every implementation alike."""

    video_BxTxHxWx3: np.ndarray | jax.Array  # float32, normalised
    masks: tuple[MaskSet, ...]


def given_step(config: PretrainConfig, layout: MeshLayout, given: Given) -> OurStep:
    """The step on `given` alone, again and again: neither augmentation nor saliency nor drawing of masks."""
    config = resolve(config, layout)
    started = time.perf_counter()
    state = abstract_state(config, layout)
    step = jax.jit(
        partial(train_on_given, config=config, layout=layout),
        in_shardings=(shardings_of(state), layout.batch),
        out_shardings=(shardings_of(state), layout.replicated),
        donate_argnums=0,
    )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.batch), given)
    compiled = step.lower(state, shapes).compile()
    taken = compilation_of(compiled, time.perf_counter() - started)
    return OurStep(compiled, taken, create_state(config, layout), repeated(given), layout, config.optim.batch)


def train_on_given(
    state: TrainState, given: Given, *, config: PretrainConfig, layout: MeshLayout
) -> tuple[TrainState, Metrics]:
    """`train_step` from the masks on: every target token counts the same."""
    patches = backbone_of(config.model).patchify(given.video_BxTxHxWx3)
    rows, grid = patches.shape[0], config.grid
    prepared = Prepared(
        given.video_BxTxHxWx3,
        patches.astype(config.model.dtype),
        given.masks,
        tuple(_even(mask) for mask in given.masks),
        jnp.zeros((rows, grid.columns)),
        jnp.ones((rows, grid.height, grid.width), bool),
        jnp.zeros((rows, grid.columns), bool),
        jnp.ones((rows, grid.tokens), bool),
    )
    grads, metrics = jax.grad(loss_and_metrics, has_aux=True)(state.params, state.target, prepared, config, layout)
    return update(state, grads, metrics, config)


def _even(mask: MaskSet) -> TargetWeights:
    ones = jnp.ones(mask.target_BxM.shape)
    return TargetWeights(ones / ones.shape[1], ones > 0, ones / ones.shape[1])


def synthetic_given(config: PretrainConfig, counts: Counts, seed: int = 0) -> Given:
    """Normalised noise, and for each mask set tokens drawn evenly; those beyond context and target are left out."""
    rng = np.random.default_rng(seed)
    rows, side = config.optim.batch, config.augment.crop
    video = rng.standard_normal((rows, config.data.frames, side, side, 3), np.float32)
    masks = []
    for context, target in counts:
        order = np.stack([rng.permutation(config.grid.tokens) for _ in range(rows)]).astype(np.int32)
        masks.append(MaskSet(np.sort(order[:, :context]), np.sort(order[:, context : context + target])))  # type: ignore[arg-type]
    return Given(video, tuple(masks))


def read_counts(text: str, grid: Grid) -> Counts:
    """`104/136,48/240` as counts. Raises ValueError where it is no such list or the clip has fewer tokens."""
    counts = []
    for part in text.split(","):
        context, _, target = part.partition("/")
        if not (context.isdecimal() and target.isdecimal() and int(context) and int(target)):
            raise ValueError(
                f"--counts: {part!r} is not CONTEXT/TARGET, two positive numbers of tokens; give one for each mask "
                "set, e.g. --counts=104/136,48/240."
            )
        if int(context) + int(target) > grid.tokens:
            raise ValueError(
                f"--counts: {part} are {int(context) + int(target)} tokens, but a clip has {grid.tokens} "
                f"({grid.time} x {grid.height} x {grid.width}); lower one of the two."
            )
        counts.append((int(context), int(target)))
    return tuple(counts)


@dataclass(frozen=True)
class CountedProgram(MaskProgram):
    """A program known by its counts alone: context and target need not be all tokens."""

    seen: tuple[int, ...] = ()

    @property
    def contexts(self) -> tuple[int, ...]:
        return self.seen


def counted(counts: Counts, grid: Grid) -> CountedProgram:
    """The program of given counts, for arithmetic about it; no mask is drawn by it."""
    contexts, targets = zip(*counts, strict=True)
    return CountedProgram("given counts", grid, targets, seen=contexts)
