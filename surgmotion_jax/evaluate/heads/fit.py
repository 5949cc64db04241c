"""Trains the heads of a sweep on cached features, in an order that depends on seed and step alone.

A step's rows are a pure function of its number, so a sweep that was interrupted goes on with the same rows.
Letters: B rows of a step, N moments of a video, H heads.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from surgmotion_jax import storage
from surgmotion_jax.checkpoints.tree import leaves_by_path, nest
from surgmotion_jax.evaluate.config import SweepConfig
from surgmotion_jax.evaluate.features.cache import Features
from surgmotion_jax.evaluate.features.files import to_npz
from surgmotion_jax.evaluate.features.windows_of_cases import Position, padded, prefetched
from surgmotion_jax.evaluate.heads.networks import Head
from surgmotion_jax.evaluate.heads.of_tasks import as_head_input
from surgmotion_jax.evaluate.heads.sweep import Batch, HeadState, Sweep, SweepSettings
from surgmotion_jax.evaluate.heads.sweep_program import fresh_head
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.evaluate.tasks.families import Truths
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.parallel.mesh import MeshLayout

STATE_FILE, HEADS_FILE, MEASURED_FILE = "sweep.npz", "heads.npz", "strategy.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingSet:
    """Moments to learn from, with their features and truth."""

    positions: tuple[Position, ...]
    features: Features
    truths: Truths


class Zeros:
    """Stands for features that are not computed yet, where only shapes count."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self.shape, self._dtype = shape, dtype

    def rows(self, positions: Sequence[Position]) -> np.ndarray:
        return np.zeros((len(positions), *self.shape), self._dtype)


@dataclass(frozen=True)
class Batches:
    """The batches of a sweep by step. For temporal heads a row is a whole video, for others a moment."""

    data: TrainingSet
    head: str
    batch: int
    seed: int

    @functools.cached_property
    def items(self) -> tuple[tuple[Position, ...], ...]:
        """What a row is made of."""
        if self.head != "temporal":
            return tuple((position,) for position in self.data.positions)
        videos: dict[int, list[Position]] = {}
        for position in self.data.positions:
            videos.setdefault(position.case, []).append(position)
        return tuple(map(tuple, videos.values()))

    @property
    def of_epoch(self) -> int:
        """Steps in which every row is seen once."""
        return -(-len(self.items) // self.batch)

    def from_step(self, start: int, steps: int) -> Iterator[Batch]:
        """Batches number `start` to `steps - 1`."""
        longest = max(map(len, self.items))
        for step in range(start, steps):
            epoch, number = divmod(step, self.of_epoch)
            if step == start or number == 0:
                order = np.random.default_rng([self.seed, epoch]).permutation(len(self.items))
            rows = order[number * self.batch : (number + 1) * self.batch]
            chosen = [self.items[row] for row in rows]
            yield self._videos(chosen, longest) if self.head == "temporal" else self._moments([c[0] for c in chosen])

    def _moments(self, positions: list[Position]) -> Batch:
        truth = self.data.truths.rows(positions)
        rows = padded(self.data.features.rows(positions), self.batch)
        target, mask = (padded(truth[name], self.batch) for name in ("label", "mask"))
        return Batch(as_head_input(self.head, rows), as_target(target), mask)

    def _videos(self, videos: list[tuple[Position, ...]], longest: int) -> Batch:
        features, target, mask = [], [], []
        for positions in videos:
            truth = self.data.truths.rows(positions)
            features.append(padded(self.data.features.rows(positions), longest))
            target.append(padded(truth["label"], longest))
            mask.append(padded(truth["mask"], longest))
        stacked = [padded(np.stack(parts), self.batch) for parts in (features, target, mask)]
        return Batch(stacked[0], as_target(stacked[1]), stacked[2], stacked[2])


def as_target(label: np.ndarray) -> np.ndarray:
    """In the 32-bit types that the heads compute with."""
    return label.astype(np.float32 if label.dtype.kind == "f" else np.int32)


@dataclass(frozen=True, eq=False)
class PlannedHeads:
    """A sweep that is compiled and fits, and how far an earlier call had come with it."""

    sweep: Sweep
    steps: int
    saved: HeadState | None


def plan_heads(
    head: Head,
    objective: Objective,
    batches: Batches,
    settings: SweepConfig,
    layout: MeshLayout,
    folder: storage.PathLike,
    say: Say,
) -> PlannedHeads:
    """Compiles the sweep for batches of these shapes, whatever the features in them, and says what it needs.

    Raises ValueError for a damaged `sweep.npz`, and as the sweep does, for one that does not fit.
    """
    place = storage.as_path(folder)
    saved = load_tree(place / STATE_FILE) if (place / STATE_FILE).exists() else None
    measured = storage.read_json(place / MEASURED_FILE) if (place / MEASURED_FILE).exists() else {}
    steps = settings.epochs * batches.of_epoch
    sweep = Sweep(
        head,
        objective,
        SweepSettings(
            steps=steps,
            grid=settings.grid,
            seed=settings.seed,
            strategy=measured.get("strategy", settings.strategy),
            budget=int(settings.memory_gb * 1e9),
        ),
        layout,
    )
    plan = sweep.prepare(next(batches.from_step(0, 1)))
    if plan.timing and not measured:  # kept, since the two ways round differently
        text = json.dumps({"strategy": "loop" if plan.group == 1 else "vmap"})
        storage.write_text_atomic(place / MEASURED_FILE, text + "\n")
    say(f"{plan.text()}\n{steps} steps of {batches.batch}, {len(batches.items)} training rows")
    return PlannedHeads(sweep, steps, None if saved is None else state_of(saved))


def train_heads(
    planned: PlannedHeads, batches: Batches, settings: SweepConfig, folder: storage.PathLike, say: Say
) -> Params:
    """Parameters of every head, with a leading axis [H].

    Writes `heads.npz` at the end and `sweep.npz` on the way, from which a repeated call goes on.
    """
    place, sweep, steps = storage.as_path(folder), planned.sweep, planned.steps
    groups = sweep.init() if planned.saved is None else sweep.grouped(planned.saved)
    start = int(groups[0].step[0])
    # Closed here: a thread that decodes on while an interrupted program ends can take it down.
    with contextlib.closing(prefetched(batches.from_step(start, steps), 2)) as ahead:
        for done, batch in enumerate(ahead, start + 1):
            groups, loss_H = sweep.step(groups, batch)
            if done % settings.save_every == 0 and done < steps:
                save_tree(place / STATE_FILE, sweep.stacked(groups))
                say(f"step {done}/{steps}, loss {np.asarray(loss_H).min():.4g} to {np.asarray(loss_H).max():.4g}")
    params = jax.tree.map(np.asarray, sweep.stacked(groups).params)
    save_tree(place / HEADS_FILE, params)
    (place / STATE_FILE).unlink(missing_ok=True)
    return dict(params)


def read_heads(folder: storage.PathLike) -> Params | None:
    """Parameters [H,...] of trained heads; None where there are none yet. Raises ValueError for a damaged file."""
    path = storage.as_path(folder) / HEADS_FILE
    return load_tree(path) if path.exists() else None


def without_lost(params: Params, names: Sequence[str]) -> tuple[Params, tuple[int, ...], tuple[str, ...]]:
    """(parameters with zeros for heads that diverged, their numbers, a note that names them).

    Raises ValueError where no head is left.
    """
    finite_H = np.logical_and.reduce([np.isfinite(x).reshape(len(x), -1).all(1) for x in jax.tree.leaves(params)])
    lost = tuple(np.flatnonzero(~finite_H).tolist())
    if not lost:
        return params, (), ()
    if len(lost) == len(names):
        raise ValueError("every head diverged to numbers that are not finite; lower sweep.learning_rates")
    whole = jax.tree.map(lambda x: np.where(finite_H.reshape(-1, *[1] * (x.ndim - 1)), x, 0), params)
    listed = ", ".join(names[n] for n in lost)
    return whole, lost, (f"{len(lost)} of {len(names)} heads diverged and cannot be chosen: {listed}",)


def state_of(tree: Params) -> HeadState:
    """The state from the nested dict that a file holds."""
    template, leaves = jax.eval_shape(fresh_head, tree["params"]), leaves_by_path(tree)
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[path] for path in leaves_by_path(template)])


def save_tree(path: storage.PathLike, tree: Params | HeadState) -> None:
    """A tree of arrays as an npz; the same bytes for the same values."""
    arrays = {name: np.asarray(leaf) for name, leaf in leaves_by_path(tree).items()}
    storage.write_bytes_atomic(path, to_npz(arrays))


def load_tree(path: storage.PathLike) -> Params:
    """`save_tree`'s values. Raises ValueError naming a file that is not one."""
    place = storage.as_path(path)
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as archive:
            return nest({name: archive[name] for name in archive.files})
    except Exception as error:  # np.load raises whatever the damaged bytes lead it to
        raise ValueError(f"{place}: not a sound file of heads ({error}); delete it and repeat the command") from error
