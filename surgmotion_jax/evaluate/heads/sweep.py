"""Many heads trained at once on the same frozen features, one for each learning rate and weight decay.

The features of a step come in once and serve every head. A step is `vmap`ped over heads in groups: all of them if
memory allows, one after the other (`loop`) where that was measured to be faster. Groups change nothing but rounding.
Several devices share out the heads; copies of heads may fill up the last places there, and are seen nowhere else.

  sweep = Sweep(head, objective, SweepSettings(steps=500), layout)
  print(sweep.prepare(first_batch).text())
  groups = sweep.train(sweep.init(), batches)

Letters: H heads, B rows of a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.evaluate.config import STRATEGIES, Grid
from surgmotion_jax.evaluate.heads.networks import PIXEL_HEADS, Head
from surgmotion_jax.evaluate.heads.sweep_program import (
    Batch,
    HeadState,
    Plan,
    Program,
    Work,
    compile_group,
    faster,
    fitting,
    free_bytes,
    fresh_head,
    groupings,
)
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.parallel.mesh import MeshLayout

Groups = tuple[HeadState, ...]  # the heads of a sweep in order, as many to each entry as are updated at a time


@dataclass(frozen=True)
class SweepSettings:
    """How the heads of a sweep are trained: AdamW, cosine to 0 without warm-up, constant decay of all parameters."""

    steps: int  # updates in all: epochs x batches of an epoch
    grid: Grid = dataclasses.field(default_factory=Grid)
    seed: int = 0  # of the initial parameters, which all heads share
    strategy: str = "auto"  # vmap, loop, or auto: the faster of the two on the first batch
    budget: int = 0  # bytes a device may use for features, heads and temporaries; 0: what is free, where it is known

    def __post_init__(self) -> None:
        at_least("sweep.steps", self.steps, 1)
        at_least("sweep.memory_gb", self.budget / 1e9, 0)
        one_of("sweep.strategy", self.strategy, STRATEGIES)


class Sweep:
    """All heads of a grid. `prepare` comes first: it compiles for the shape of the batches and decides the groups."""

    def __init__(self, head: Head, objective: Objective, settings: SweepSettings, layout: MeshLayout) -> None:
        self.head, self.objective, self.settings, self.layout = head, objective, settings, layout
        self.points = settings.grid.points
        self._program: Program | None = None
        self._shapes: Batch | None = None
        self._init = jax.jit(head.init)
        self._outputs = jax.jit(jax.vmap(head.apply, in_axes=(0, None, None)), out_shardings=layout.replicated)

    @property
    def heads(self) -> int:
        """H."""
        return len(self.points)

    def prepare(self, batch: Batch) -> Plan:
        """Compiles the step and decides how many heads it takes at a time.

        With strategy auto, both ways are timed on `batch` with heads that are then thrown away, so the choice leaves
        no trace but rounding; to repeat a run to the last digit, give the strategy that its plan chose.

        Raises ValueError where a single head does not fit the budget, and for outputs that do not fit the objective.
        """
        self._shapes = jax.tree.map(_shape, batch)
        check_outputs(self.head, self.objective, self._shapes)
        budget = self.settings.budget or free_bytes(self.layout.mesh.devices.flat[0])
        points = np.array(self.points)
        work = Work(self.head, self.objective, self.settings.steps, points, self._shapes, self.layout, budget)
        loop = self.settings.strategy == "loop"
        program = fitting(work, [way for way in groupings(work) if way[1] == 1 or not loop])
        if program.plan.group > 1 and self.settings.strategy == "auto":
            program = faster(work, program, compile_group(work, program.plan.placement, 1), batch)
        self._program = program
        return program.plan

    def init(self) -> Groups:
        """Fresh heads, in the groups of the plan; they differ in their hyper-parameters alone."""
        first = self._init(jax.random.key(self.settings.seed))
        stacked = jax.tree.map(lambda x: np.broadcast_to(x, (self.heads, *x.shape)), fresh_head(first))
        return self.grouped(stacked)

    def step(self, groups: Groups, batch: Batch) -> tuple[Groups, jax.Array]:
        """One update of every head. Returns (groups, losses [H] before it); the old groups are used up.

        Raises ValueError for a batch of other shapes than `prepare` was given.
        """
        program = self._ready()
        found = jax.tree.map(_shape, batch)
        if found != self._shapes:
            raise ValueError(
                f"the batch has {found}, but the sweep was prepared for {self._shapes}; fill the last batch up to the "
                "same size, with rows that the mask leaves out."
            )
        placed = jax.device_put(batch, program.batch)
        points = np.array(self.points, jnp.result_type(float))[program.plan.places].reshape(len(groups), -1, 2)
        done = [program.run(state, point, placed) for state, point in zip(groups, points, strict=True)]
        return tuple(state for state, _ in done), jnp.concatenate([loss for _, loss in done])[: self.heads]

    def train(
        self, groups: Groups, batches: Iterable[Batch], report: Callable[[int, np.ndarray], None] | None = None
    ) -> Groups:
        """Updates every head on each batch in turn; `report` receives (updates done, losses [H])."""
        for batch in batches:
            groups, loss_H = self.step(groups, batch)
            if report:
                report(int(groups[0].step[0]), np.asarray(loss_H))
        return groups

    def outputs(self, groups: Groups, features: Any, valid: Any = None) -> jax.Array:
        """Outputs of every head on the same features, [H,B,...]; `objective.predict` turns them into predictions."""
        where = self._ready().batch
        if features.shape[self.head.batch_axis] % self.layout.batch_parts:  # rows that do not divide go everywhere
            where = Batch(*[self.layout.replicated] * 4)
        placed = jax.device_put((features, valid), (where.features, where.valid))
        return jnp.concatenate([self._outputs(state.params, *placed) for state in groups])[: self.heads]

    def stacked(self, groups: Groups) -> HeadState:
        """The state with one leading axis of all heads: what a checkpoint holds, whatever groups and devices."""
        return jax.tree.map(lambda *x: np.concatenate(x)[: self.heads], *groups)  # type: ignore[no-any-return]

    def grouped(self, stacked: HeadState) -> Groups:
        """The inverse of `stacked`, placed on the devices as the plan says. Raises ValueError for another grid's."""
        program = self._ready()
        found = len(stacked.step)
        if found != self.heads:
            raise ValueError(f"the state holds {found} heads, the grid has {self.heads}; use the grid it was made with")
        return tuple(
            jax.tree.map(lambda x, g=group: jax.device_put(x[g], program.state), stacked)
            for group in program.plan.places.reshape(program.plan.groups, -1)
        )

    def _ready(self) -> Program:
        if self._program is None:
            raise ValueError("the sweep has no program yet; call prepare with a batch first")
        return self._program


def check_outputs(head: Head, objective: Objective, shapes: Batch) -> None:
    """Raises ValueError unless the head's outputs are what the objective takes for such batches."""
    params = jax.eval_shape(head.init, jax.random.key(0))
    found = jax.eval_shape(head.apply, params, shapes.features, shapes.valid).shape
    wanted = shapes.mask.shape + (() if head.name in PIXEL_HEADS else (objective.outputs,))
    if found != wanted:
        raise ValueError(
            f"head {head.name!r} gives {found} for features {shapes.features.shape}, but objective {objective.name!r} "
            f"with a mask {shapes.mask.shape} takes {wanted}."
        )


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))
