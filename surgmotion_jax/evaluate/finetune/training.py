"""Trains a copy of the encoder with a head for each pair of learning rate and weight decay, one after the other.

Every candidate begins with the same parameters and sees the same batches. What is finished, and the state of the one
at work, lie in files, so that an interrupted sweep goes on where it was, to the same bits. Letters: H candidates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.evaluate.config import SweepConfig
from surgmotion_jax.evaluate.features.windows_of_cases import padded, prefetched
from surgmotion_jax.evaluate.finetune.step import Tuning, needs_of
from surgmotion_jax.evaluate.heads.fit import HEADS_FILE, Batches, load_tree, save_tree
from surgmotion_jax.evaluate.heads.sweep_program import Batch, HeadState
from surgmotion_jax.models.parameters import Params

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Candidates:
    """A compiled step, and the files of the candidates that it trains."""

    tuning: Tuning
    program: jax.stages.Compiled
    folder: epath.Path

    def finished(self, number: int) -> epath.Path:
        """The parameters of a candidate after its last step."""
        return self.folder / f"candidate-{number}.npz"

    def under_way(self, number: int) -> epath.Path:
        """The whole state of a candidate between two steps."""
        return self.folder / f"candidate-{number}-state.npz"


def plan_candidates(
    tuning: Tuning, batches: Batches, settings: SweepConfig, folder: storage.PathLike, say: Say
) -> Candidates:
    """Compiles the step, whatever the pixels, and says what it needs. Raises ValueError where that does not fit."""
    program = tuning.compiled(filled(next(batches.from_step(0, 1)), tuning))
    needs = needs_of(tuning, program, int(settings.memory_gb * 1e9))
    say(f"fine-tuning {tuning.network.settings.blocks}: {needs.text()}")
    needs.check()
    count = len(settings.grid.points)
    say(f"{count} candidates, {tuning.steps} steps of {batches.batch} each, {len(batches.items)} training rows")
    return Candidates(tuning, program, storage.as_path(folder))


def train_candidates(candidates: Candidates, batches: Batches, settings: SweepConfig, say: Say) -> Params:
    """Parameters of every candidate, with a leading axis [H]; writes them to `heads.npz`."""
    points = settings.grid.points
    for number, point in enumerate(points):
        if not candidates.finished(number).exists():
            say(f"candidate {number + 1} of {len(points)}: lr={point[0]:g} wd={point[1]:g}")
            save_tree(candidates.finished(number), _train(candidates, number, point, batches, settings, say))
            candidates.under_way(number).unlink(missing_ok=True)
    each = [load_tree(candidates.finished(number)) for number in range(len(points))]
    params: Params = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    save_tree(candidates.folder / HEADS_FILE, params)
    for number in range(len(points)):
        candidates.finished(number).unlink()
    return params


def _train(
    candidates: Candidates, number: int, point: tuple[float, float], batches: Batches, settings: SweepConfig, say: Say
) -> Params:
    """The parameters of one candidate after all steps."""
    tuning, place = candidates.tuning, candidates.under_way(number)
    state, steps = _start(tuning, place, settings.seed), tuning.steps
    frozen, point_2 = tuning.network.frozen, np.array(point, jnp.result_type(float))
    start = int(state.step)
    with contextlib.closing(prefetched(batches.from_step(start, steps), 2)) as ahead:
        for done, batch in enumerate(ahead, start + 1):
            placed = jax.device_put(filled(batch, tuning), tuning.network.layout.batch)
            state, loss = candidates.program(state, frozen, point_2, placed)
            if done % settings.save_every == 0 and done < steps:
                save_tree(place, state)
                say(f"step {done}/{steps}, loss {float(loss):.4g}")
    return jax.tree.map(np.asarray, state.params)  # type: ignore[no-any-return]


def _start(tuning: Tuning, place: epath.Path, seed: int) -> HeadState:
    """The state of a file, or a fresh one, on the devices. Raises ValueError for a damaged file."""
    if not place.exists():
        shardings = jax.tree.map(lambda leaf: leaf.sharding, tuning.abstract)
        return jax.jit(tuning.fresh, out_shardings=shardings)(tuning.network.start.trained, jax.random.key(seed))
    saved, paths = leaves_by_path(load_tree(place)), list(leaves_by_path(tuning.abstract))
    state = jax.tree.unflatten(jax.tree.structure(tuning.abstract), [saved[path] for path in paths])

    def placed(leaf: np.ndarray, like: jax.Array) -> jax.Array:
        # A file of arrays does not know bfloat16: its numbers come back as two bytes each.
        return jax.device_put(leaf.view(like.dtype), like.sharding)

    return jax.tree.map(placed, state, tuning.abstract)  # type: ignore[no-any-return]


def filled(batch: Batch, tuning: Tuning) -> Batch:
    """The batch with rows that do not count, up to a multiple of the devices that share them."""
    rows = len(batch.mask) + -len(batch.mask) % tuning.network.layout.batch_parts
    return Batch(*(padded(part, rows) for part in (batch.features, batch.target, batch.mask)))
