"""The step of a group of heads: compiled for one shape of batch, its memory read off the program, its time measured.

Letters: H heads in all, G heads of a group, B rows of a batch.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from surgmotion_jax.evaluate.adamw import Moments, adamw, cosine, no_moments
from surgmotion_jax.evaluate.heads import Head
from surgmotion_jax.evaluate.targets import Objective
from surgmotion_jax.parallel.mesh import MeshLayout

ROUNDS = 5  # of the measurement
HEADS_TIMED = 4  # of the loop, in each round
GIB = 2**30


class Batch(NamedTuple):
    """One step's input, the same shapes at every step. Rows that only fill up the last batch are masked."""

    features: Any  # as the head takes them
    target: Any  # [B,...]
    mask: Any  # bool, which targets count: [B], [B,N] or [B,H,W]
    valid: Any = None  # bool [B,N], which tokens or moments are real; None: all


class HeadState(NamedTuple):
    """A head in training. In a sweep every leaf has a leading axis of heads."""

    params: Any
    moments: Moments
    step: jax.Array  # updates done


def gradients(head: Head, objective: Objective, params: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """Loss of one head on a batch, and its gradient."""

    def loss(p: Any) -> jax.Array:
        return objective.loss(head.apply(p, batch.features, batch.valid), batch.target, batch.mask)

    return jax.value_and_grad(loss)(params)


def head_step(
    head: Head, objective: Objective, steps: int, state: HeadState, point_2: jax.Array, batch: Batch
) -> tuple[HeadState, jax.Array]:
    """One update of one head; `point` is its (peak learning rate, weight decay). Returns (state, loss before it)."""
    loss, grads = gradients(head, objective, state.params, batch)
    lr = cosine(state.step, steps, point_2[0])
    params, moments = adamw(grads, state.moments, state.params, state.step, lr, point_2[1])
    return HeadState(params, moments, state.step + 1), loss


@dataclass(frozen=True, eq=False)
class Work:
    """What there is to do: heads, what trains them, the shapes of a batch, the devices."""

    head: Head
    objective: Objective
    steps: int
    points_Hx2: np.ndarray  # (peak learning rate, weight decay)
    shapes: Batch  # of ShapeDtypeStruct
    layout: MeshLayout
    budget: int  # bytes of a device; 0: not known

    @property
    def heads(self) -> int:
        """H."""
        return len(self.points_Hx2)

    def fresh(self, group: int) -> HeadState:
        """A state of `group` heads, to be traced or thrown away."""
        params = jax.tree.map(lambda x: jnp.broadcast_to(x, (group, *x.shape)), self.head.init(jax.random.key(0)))
        return HeadState(params, no_moments(params), jnp.zeros(group, jnp.int32))


class Timing(NamedTuple):
    """Median seconds of a step of all heads."""

    vmap_s: float
    loop_s: float


@dataclass(frozen=True)
class Plan:
    """How a sweep runs and what it needs; bytes are of one device, read off the compiled program."""

    heads: int
    group: int  # heads at a time
    placement: str  # what the devices share out: heads, rows (of the batch), or nothing
    devices: int
    batch_bytes: int  # features and targets of a step
    state_bytes: int  # parameters and moments of all heads
    working_bytes: int  # gradients and activations of a group
    budget: int  # 0: not known
    timing: Timing | None = None  # where the strategy was measured

    @property
    def total_bytes(self) -> int:
        """Bytes needed on a device."""
        return self.batch_bytes + self.state_bytes + self.working_bytes

    @property
    def head_bytes(self) -> int:
        """Bytes that a head takes while its group is at work, wherever it lies."""
        share = self.devices if self.placement == "heads" else 1
        return self.state_bytes * share // self.heads + self.working_bytes * share // self.group

    def text(self) -> str:
        """The plan in a few lines, for a log."""
        how = "one after the other" if self.group == 1 else f"{self.group} at a time"
        limit = f" of {_mib(self.budget)}" if self.budget else ""
        lines = [
            f"{self.heads} heads, {how}; devices: {self.devices}, sharing out {self.placement}",
            f"memory a device: {_mib(self.total_bytes)}{limit} = features {_mib(self.batch_bytes)} + parameters and "
            f"moments {_mib(self.state_bytes)} + gradients and activations {_mib(self.working_bytes)}; "
            f"a head at work takes {_mib(self.head_bytes)}",
        ]
        if self.timing:
            vmap, loop = self.timing
            lines.append(f"measured a step of all heads: vmap {vmap:.4g} s, loop {loop:.4g} s ({vmap / loop:.2f})")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Program:
    """The step of a group: (state, points [G,2], batch) -> (state, losses [G]). The state given is used up."""

    run: Callable[[HeadState, Any, Batch], tuple[HeadState, jax.Array]]
    plan: Plan
    state: NamedSharding
    batch: Batch  # of NamedSharding

    @property
    def group(self) -> int:
        """G."""
        return self.plan.group


def compile_group(work: Work, group: int) -> Program:
    """Compiles the step of `group` heads; of one, without `vmap`: the plain loop is what it is compared with."""

    def one(state: HeadState, point_2: jax.Array, batch: Batch) -> tuple[HeadState, jax.Array]:
        return head_step(work.head, work.objective, work.steps, state, point_2, batch)

    def run(state: HeadState, point_Gx2: jax.Array, batch: Batch) -> tuple[HeadState, jax.Array]:
        if group > 1:
            return jax.vmap(one, in_axes=(0, 0, None))(state, point_Gx2, batch)
        alone = one(jax.tree.map(lambda x: x[0], state), point_Gx2[0], batch)
        return jax.tree.map(lambda x: x[None], alone)  # type: ignore[no-any-return]

    placement = _placement(work, group)
    whole = work.layout.replicated
    # The leading axis of the state, heads, goes where the rows of a batch would.
    state = work.layout.batch if placement == "heads" else whole
    batch = _batch_shardings(work, placement)
    shapes = jax.eval_shape(lambda: work.fresh(group))
    points = jax.ShapeDtypeStruct((group, 2), jnp.result_type(float))
    jitted = jax.jit(run, in_shardings=(state, whole, batch), out_shardings=(state, whole), donate_argnums=0)
    compiled = jitted.lower(shapes, points, work.shapes).compile()
    memory = compiled.memory_analysis()  # some platforms do not tell
    plan = Plan(
        heads=work.heads,
        group=group,
        placement=placement,
        devices=work.layout.mesh.size,
        batch_bytes=sum(_bytes_here(field, s) for field, s in zip(work.shapes, batch, strict=True)),
        state_bytes=_bytes_here(shapes, state) * (work.heads // group),
        working_bytes=int(memory.temp_size_in_bytes) if memory else 0,
        budget=work.budget,
    )
    return Program(compiled, plan, state, batch)


def largest_group(work: Work) -> Program:
    """The step of as many heads as divide the sweep evenly and fit the budget."""
    group = work.heads
    while True:
        program = compile_group(work, group)
        plan = program.plan
        if group == 1 or not plan.budget or plan.total_bytes <= plan.budget:
            return checked(program)
        room = plan.budget - plan.batch_bytes - plan.state_bytes
        likely = group * room / max(plan.working_bytes, 1)  # temporaries grow with the heads of a group
        group = max(g for g in range(1, group) if work.heads % g == 0 and (g <= likely or g == 1))


def checked(program: Program) -> Program:
    """Raises ValueError where the program needs more memory than there is."""
    plan = program.plan
    if plan.budget and plan.total_bytes > plan.budget:
        raise ValueError(
            f"{plan.heads} heads, {plan.group} at a time, need {_mib(plan.total_bytes)} a device, but "
            f"{_mib(plan.budget)} are there: features {_mib(plan.batch_bytes)}, parameters and moments "
            f"{_mib(plan.state_bytes)}, gradients and activations {_mib(plan.working_bytes)}. Use a smaller batch or "
            "fewer heads (sweep.grid), or raise sweep.budget."
        )
    return program


def faster(work: Work, vmap: Program, loop: Program, batch: Batch) -> Program:
    """Times both in turns, on states of their own, and returns the faster with the timing in its plan."""
    together, alone = _clock(work, vmap, 1, batch), _clock(work, loop, min(HEADS_TIMED, work.heads), batch)
    pairs = [(together(), alone()) for _ in range(ROUNDS)]
    timing = Timing(*(statistics.median(column) for column in zip(*pairs, strict=True)))
    chosen = vmap if timing.vmap_s <= timing.loop_s else loop
    return dataclasses.replace(chosen, plan=dataclasses.replace(chosen.plan, timing=timing))


def free_bytes(device: Any) -> int:
    """Bytes of memory that are free on a device, a tenth of the whole kept back; 0 where the platform cannot say."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit", 0)
    return max(int(0.9 * limit) - stats.get("bytes_in_use", 0), 1) if limit else 0


def _clock(work: Work, program: Program, calls: int, batch: Batch) -> Callable[[], float]:
    """A function that runs a group's step `calls` times and returns the seconds that all heads would take."""
    placed = jax.device_put(batch, program.batch)
    points = work.points_Hx2[: program.group].astype(jnp.result_type(float))
    state = jax.jit(lambda: work.fresh(program.group), out_shardings=program.state)()
    state, _ = jax.block_until_ready(program.run(state, points, placed))  # the first call is slower

    def seconds() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(calls):
            state, _ = program.run(state, points, placed)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / calls * (work.heads / program.group)

    return seconds


def _placement(work: Work, group: int) -> str:
    """Heads over the devices where they divide evenly, otherwise rows of the batch, otherwise all on each."""
    parts = work.layout.batch_parts
    if parts == 1:
        return "nothing"
    if group % parts == 0:
        return "heads"
    return "rows" if work.shapes.mask.shape[0] % parts == 0 else "nothing"


def _batch_shardings(work: Work, placement: str) -> Batch:
    """A sharding for each field of a batch."""
    if placement != "rows":
        return Batch(*[work.layout.replicated] * 4)
    rows = work.layout.batch
    spec = PartitionSpec(*[None] * work.head.batch_axis, *rows.spec)
    return Batch(NamedSharding(work.layout.mesh, spec), rows, rows, rows)


def _bytes_here(shapes: Any, sharding: NamedSharding) -> int:
    """Bytes of a tree on one device."""
    leaves = jax.tree.leaves(shapes)
    return sum(int(np.prod(sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in leaves)


def _mib(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.3g} MiB"
