"""The step of fine-tuning: one jitted function of state and batch, with explicit shardings and donation.

Rows of a batch are shared out over the devices, parameters lie as the table of rules says. Rows that only fill up a
batch are masked, so that any batch fits any number of devices.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.evaluate.finetune.augment import augmented
from surgmotion_jax.evaluate.finetune.network import Network
from surgmotion_jax.evaluate.heads.optimizer import Optimizer, finetune_optimizer, warmed_cosine
from surgmotion_jax.evaluate.heads.sweep_program import GIB, Batch, HeadState, free_bytes
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.models.parameters import Params
from surgmotion_jax.optim import rates
from surgmotion_jax.optim.ownership import map_owned
from surgmotion_jax.parallel.mesh import laid_out

ADVICE = (
    "Lower sweep.batch, train fewer blocks (finetune.blocks=last:N), keep less of each (finetune.remat=full) or half "
    "of the moments' digits (finetune.moments_dtype=bfloat16), each in a new --workdir, or raise sweep.memory_gb."
)


@dataclass(frozen=True, eq=False)
class Tuning:
    """What is trained, towards what, in how many steps."""

    network: Network
    objective: Objective
    steps: int
    seed: int = 0  # draws how windows are changed

    def fresh(self, encoder: Params, key: jax.Array) -> HeadState:
        """The state before the first update, from the trained part of the encoder as it was loaded."""
        params = self.network.init(encoder, key)
        return HeadState(params, self._optimizer.init(params), jnp.zeros((), jnp.int32))

    def step(self, state: HeadState, frozen: Params, point_2: jax.Array, batch: Batch) -> tuple[HeadState, jax.Array]:
        """One update; `point` is (peak learning rate of the head, weight decay). Returns (state, loss before it)."""
        settings = self.network.settings
        seen = augmented(settings, jax.random.fold_in(jax.random.key(self.seed), state.step), batch)

        def loss(params: Params) -> jax.Array:
            return self.objective.loss(self.network.apply(params, frozen, seen.features), seen.target, seen.mask)

        value, grads = jax.value_and_grad(loss)(state.params)
        lr = warmed_cosine(state.step, self.steps, settings.warmup, point_2[0])
        params, opt_state = rates.step(self._optimizer, grads, state.opt_state, state.params, lr, point_2[1])
        return HeadState(params, opt_state, state.step + 1), value

    @functools.cached_property
    def abstract(self) -> HeadState:
        """Shapes and shardings of the state: the moments of a parameter lie where it does."""
        params, replicated = self.network.abstract, self.network.layout.replicated
        shapes = jax.eval_shape(self.fresh, self.network.start.trained, jax.random.key(0))
        opt_state = map_owned(
            lambda leaf, parameter: laid_out(leaf, parameter.sharding),
            lambda leaf: laid_out(leaf, replicated),
            shapes.opt_state,
            params,
        )
        return HeadState(params, opt_state, laid_out(shapes.step, replicated))

    def compiled(self, batch: Batch) -> jax.stages.Compiled:
        """The step for batches of these shapes: (state, frozen, point, batch) -> (state, loss); uses up the state."""
        layout = self.network.layout
        state = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        frozen = jax.tree.map(lambda leaf: leaf.sharding, self.network.frozen)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
        jitted = jax.jit(
            self.step,
            in_shardings=(state, frozen, layout.replicated, layout.batch),
            out_shardings=(state, layout.replicated),
            donate_argnums=0,
        )
        point = jax.ShapeDtypeStruct((2,), jnp.result_type(float))
        return jitted.lower(self.abstract, self.network.frozen, point, shapes).compile()

    @functools.cached_property
    def _optimizer(self) -> Optimizer:
        return finetune_optimizer(self.network.settings, self.network.rate_shares)


@dataclass(frozen=True)
class Needs:
    """What a compiled step takes; bytes are of one device."""

    trained: int  # parameters
    frozen: int  # parameters
    devices: int
    arguments: int  # bytes of state, frozen parameters and batch
    working: int  # bytes of gradients and activations
    budget: int  # bytes; 0: not known

    def text(self) -> str:
        """In a line, for a log."""
        limit = f" of {self.budget / GIB:.3g} GiB" if self.budget else ""
        return (
            f"{self.trained:,} parameters trained, {self.frozen:,} frozen, on {self.devices} devices; memory a device: "
            f"{(self.arguments + self.working) / GIB:.3g} GiB{limit}, of it {self.working / GIB:.3g} GiB of gradients "
            "and activations"
        )

    def check(self) -> None:
        """Raises ValueError where a device has less."""
        if self.budget and self.arguments + self.working > self.budget:
            raise ValueError(f"fine-tuning does not fit the devices: {self.text()}. {ADVICE}")


def needs_of(tuning: Tuning, program: jax.stages.Compiled, budget: int) -> Needs:
    """What the program takes, by the compiler's count; `budget` 0 asks the device what is free."""
    memory, layout = program.memory_analysis(), tuning.network.layout  # some platforms do not tell
    return Needs(
        trained=_count(tuning.network.start.trained),
        frozen=_count(tuning.network.start.frozen),
        devices=layout.mesh.size,
        arguments=int(memory.argument_size_in_bytes) if memory else 0,
        working=int(memory.temp_size_in_bytes) if memory else 0,
        budget=budget or free_bytes(layout.mesh.devices.flat[0]),
    )


def _count(params: Params) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
