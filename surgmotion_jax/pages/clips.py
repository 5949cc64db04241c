"""Training clips as a person looks at them: what the training step prepares of each, and a line that describes it.

Letters: K tubes of I_h, T frames, H, W pixels, t tubelets, gh, gw rows and columns of the patch grid, u 1 or t.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.data import Batch, ClipDataset, batches
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import Prepared, RawBatch, prepare
from surgmotion_jax.pretrain.sample.masks import mask_programs, program_of_step


class Shown(NamedTuple):
    """One clip as the training step prepares it."""

    origin: str
    program: str  # name of the mask program of its step
    frame_TxHxWx3: np.ndarray  # uint8, after augmentation
    valid_T: np.ndarray  # False: a frame repeated because the video is too short
    inside_ghxgw: np.ndarray  # tubes in the field of view
    score_uxghxgw: np.ndarray  # u is 1 where a tube is a column, else t
    top_uxghxgw: np.ndarray  # I_h of the first mask set
    masked_txghxgw: np.ndarray  # targets of the first mask set


def training_clips(config: PretrainConfig, count: int, say: Callable[[str], None] = print) -> Iterator[Shown]:
    """The first `count` clips that a run of this config trains on, through its loader and its `prepare`.

    `say` is told of each file that cannot be read.
    """
    programs = mask_programs(config.mask, config.grid)
    prepared = {p.name: jax.jit(partial(prepare, config=config, program=p, training=True)) for p in programs}
    # Neither how many processes decode nor what they keep changes a clip; a few clips are worth neither.
    dataset = ClipDataset(dataclasses.replace(config.data, workers=0, memory_gb=0.0), config.seed)
    for fault in dataset.faults:
        say(f"unreadable: {fault.path}: {fault.reason}")
    batch = config.optim.batch
    rows, steps = min(count, batch), -(-count // batch)
    for step, raw in enumerate(batches(dataset, global_batch=batch, rows=(0, rows), start_step=0, stop_step=steps)):
        for fault in raw.skipped:
            say(f"unreadable, replaced by another clip: {fault.path}: {fault.reason}")
        program = program_of_step(programs, config.seed, step).name
        arrays = RawBatch(jnp.asarray(raw.video_BxTxHxWx3), jnp.asarray(raw.valid_BxT), jnp.asarray(raw.index_B))
        ready = prepared[program](arrays, jnp.int32(step))
        for row in range(min(rows, count - step * batch)):
            yield one_clip(ready, raw, row, program, config)


def one_clip(ready: Prepared, raw: Batch, row: int, program: str, config: PretrainConfig) -> Shown:
    """Row `row` of a prepared batch, on the grid of patches."""
    grid = config.grid
    per_tube = (-1, grid.height, grid.width)
    masked_N = np.zeros(grid.tokens, bool)
    masked_N[np.asarray(ready.masks[0].target_BxM[row])] = True
    return Shown(
        origin=raw.origin[row],
        program=program,
        frame_TxHxWx3=np.round(255 * np.asarray(ready.video01_BxTxHxWx3[row])).astype(np.uint8),
        valid_T=raw.valid_BxT[row],
        inside_ghxgw=np.asarray(ready.inside_Bxhxw[row]),
        score_uxghxgw=np.asarray(ready.score_BxU[row]).reshape(per_tube),
        top_uxghxgw=np.asarray(ready.top_BxU[row]).reshape(per_tube),
        masked_txghxgw=masked_N.reshape(per_tube),
    )


def describe(number: int, shown: Shown) -> str:
    """One line: origin, share of tubes in the field of view, the tubes of I_h with their scores, highest first."""
    place_Kx3 = np.argwhere(shown.top_uxghxgw)
    score_K = shown.score_uxghxgw[shown.top_uxghxgw]
    named = len(shown.score_uxghxgw) > 1  # columns run through all time: their number in time says nothing
    tubes = ", ".join(
        f"({', '.join(map(str, place_Kx3[k] if named else place_Kx3[k][1:]))}) {score_K[k]:.3f}"
        for k in np.argsort(-score_K, kind="stable")
    )
    repeated = int((~shown.valid_T).sum())
    return (
        f"clip {number}  {shown.origin}  {shown.program}  {inside_percent(shown)} of tubes in the field of view"
        f"{f'  {repeated} repeated frames' if repeated else ''}  top tubes ({'time, ' if named else ''}row, column) "
        f"score: {tubes or 'none'}"
    )


def inside_percent(shown: Shown) -> str:
    return f"{100 * shown.inside_ghxgw.mean():.0f} %"
