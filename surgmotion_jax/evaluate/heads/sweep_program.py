"""The step of a group of heads: compiled for one shape of batch, its memory read off the program, its time measured.

Devices share out the heads. Where these do not divide, copies of heads fill up the last places and are dropped.
Letters: H heads in all, G heads of a group on all devices together, copies included, B rows of a batch.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from surgmotion_jax.evaluate.heads.networks import Head
from surgmotion_jax.evaluate.heads.optimizer import cosine, head_optimizer
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.optim import rates
from surgmotion_jax.parallel.mesh import MeshLayout

ROUNDS = 5  # of the measurement
HEADS_TIMED = 4  # of the loop, in each round
GIB = 2**30
FREE_SHARE = 0.9  # of a device's memory that heads may count with
ADVICE = (
    "Lower sweep.batch, give fewer sweep.learning_rates or sweep.weight_decays, let an attentive head compute again "
    "what it need not keep (probe.remat=full), each in a new --workdir, or raise sweep.memory_gb (0: what is free)."
)


class Batch(NamedTuple):
    """One step's input, the same shapes at every step. Rows that only fill up the last batch are masked."""

    features: Any  # as the head takes them
    target: Any  # [B,...]
    mask: Any  # bool, which targets count: [B], [B,N] or [B,H,W]
    valid: Any = None  # bool [B,N], which tokens or moments are real; None: all


class HeadState(NamedTuple):
    """A head in training. In a sweep every leaf has a leading axis of heads."""

    params: optax.Params
    opt_state: optax.OptState
    step: jax.Array  # updates done


def fresh_head(params: optax.Params) -> HeadState:
    """One head before its first update."""
    return HeadState(params, head_optimizer().init(params), jnp.zeros((), jnp.int32))


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
    params, opt_state = rates.step(head_optimizer(), grads, state.opt_state, state.params, lr, point_2[1])
    return HeadState(params, opt_state, state.step + 1), loss


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
    options: Mapping[str, str] | None = None  # of the compiler

    @property
    def heads(self) -> int:
        """H."""
        return len(self.points_Hx2)

    def fresh(self, count: int) -> HeadState:
        """A state of `count` heads, to be traced or thrown away."""
        one = fresh_head(self.head.init(jax.random.key(0)))
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), one)  # type: ignore[no-any-return]


class Timing(NamedTuple):
    """Median seconds of a step of all heads."""

    vmap_s: float
    loop_s: float


@dataclass(frozen=True)
class Plan:
    """How a sweep runs and what it needs; bytes are of one device, read off the compiled program."""

    heads: int
    group: int  # heads that a device updates at a time; 1: one after the other, without vmap
    placement: str  # what the devices share out: heads, rows (of the batch), or nothing
    devices: int  # that share out heads or rows
    batch_bytes: int  # features and targets of a step
    state_bytes: int  # parameters and moments of all heads
    working_bytes: int  # gradients and activations of a group
    budget: int  # 0: not known
    timing: Timing | None = None  # where the strategy was measured

    @property
    def together(self) -> int:
        """G: heads that all devices update at a time, copies included."""
        return self.group * self.devices if self.placement == "heads" else self.group

    @property
    def groups(self) -> int:
        """How many groups make a step of all heads."""
        return -(-self.heads // self.together)

    @property
    def places(self) -> np.ndarray:
        """The head that stands at each place of the groups; places beyond the last head hold copies."""
        return np.arange(self.groups * self.together) % self.heads

    @property
    def total_bytes(self) -> int:
        """Bytes needed on a device."""
        return self.batch_bytes + self.state_bytes + self.working_bytes

    @property
    def head_bytes(self) -> int:
        """Bytes that a head takes while its group is at work, wherever it lies."""
        return self.state_bytes // (self.groups * self.group) + self.working_bytes // self.group

    def text(self) -> str:
        """The plan in a few lines, for a log."""
        how = "one after the other" if self.together == 1 else f"{self.together} at a time"
        copies = len(self.places) - self.heads
        filled = f", {copies} copies filling up the last places" if copies else ""
        each = f", {self.group} a device" if self.placement == "heads" else ""
        limit = f" of {_mib(self.budget)}" if self.budget else ""
        lines = [
            f"{self.heads} heads, {how}{filled}; devices: {self.devices}, sharing out {self.placement}{each}",
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


Grouping = tuple[str, int]  # (what the devices share out, heads that a device updates at a time), as in Plan


def groupings(work: Work) -> list[Grouping]:
    """Ways to divide a step, most wanted first.

    Every device gets the same number of heads; fewer heads than devices share out the rows of a batch instead, where
    those divide. Rows are also what is left where a device has no room for one head with all of them.
    """
    parts, rows = work.layout.batch_parts, work.shapes.mask.shape[0]
    if parts == 1:
        return [("nothing", group) for group in _divisors(work.heads)]
    # A kernel written for one TPU core cannot be cut by the compiler, as rows would be.
    whole = getattr(work.head.config, "attention", "") in ("splash", "fused") or rows % parts
    by_rows = [] if whole else [("rows", group) for group in _divisors(work.heads) if group < parts]
    if work.heads < parts and by_rows:
        return by_rows
    return [("heads", group) for group in _divisors(-(-work.heads // parts))] + by_rows


def compile_group(work: Work, placement: str, group: int) -> Program:
    """Compiles the step of a group; one head a device goes without `vmap`, the plain loop to compare with."""

    def one(state: HeadState, point_2: jax.Array, batch: Batch) -> tuple[HeadState, jax.Array]:
        return head_step(work.head, work.objective, work.steps, state, point_2, batch)

    def run(state: HeadState, point_Gx2: jax.Array, batch: Batch) -> tuple[HeadState, jax.Array]:
        if group > 1:
            return jax.vmap(one, in_axes=(0, 0, None))(state, point_Gx2, batch)
        alone = one(jax.tree.map(lambda x: x[0], state), point_Gx2[0], batch)
        return jax.tree.map(lambda x: x[None], alone)  # type: ignore[no-any-return]

    whole, state = work.layout.replicated, work.layout.replicated
    if placement == "heads":  # their axis goes where the rows of a batch would; each device runs on its own
        state = work.layout.batch
        run = work.layout.per_shard(run, (("batch",), ("batch",), ()), ("batch",))
    batch = _batch_shardings(work, placement)
    plan = Plan(work.heads, group, placement, work.layout.batch_parts, 0, 0, 0, work.budget)
    shapes = jax.eval_shape(lambda: work.fresh(plan.together))
    points = jax.ShapeDtypeStruct((plan.together, 2), jnp.result_type(float))
    jitted = jax.jit(run, in_shardings=(state, state, batch), out_shardings=(state, whole), donate_argnums=0)
    compiled = jitted.lower(shapes, points, work.shapes).compile(compiler_options=dict(work.options or {}))
    memory = compiled.memory_analysis()  # some platforms do not tell
    plan = dataclasses.replace(
        plan,
        batch_bytes=sum(_bytes_here(field, s) for field, s in zip(work.shapes, batch, strict=True)),
        state_bytes=_bytes_here(shapes, state) * plan.groups,
        working_bytes=int(memory.temp_size_in_bytes) if memory else 0,
    )
    return Program(compiled, plan, state, batch)


def fitting(work: Work, wanted: list[Grouping]) -> Program:
    """The first that fits the budget. Raises ValueError where none does."""
    program, likely = None, math.inf
    for placement, group in wanted:
        if program and placement == program.plan.placement and group > max(likely, 1):
            continue
        try:
            program = compile_group(work, placement, group)
        except jax.errors.JaxRuntimeError as error:  # a TPU's compiler refuses what does not fit
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if (placement, group) == wanted[-1]:
                raise ValueError(f"{work.heads} heads do not fit the devices ({error}). {ADVICE}") from error
            continue
        plan = program.plan
        if not plan.budget or plan.total_bytes <= plan.budget:
            break
        room = plan.budget - plan.batch_bytes - plan.state_bytes
        likely = group * room / max(plan.working_bytes, 1)  # temporaries grow with the heads of a group
    assert program is not None, "there is always a way"
    return checked(program)


def checked(program: Program) -> Program:
    """Raises ValueError where the program needs more memory than there is."""
    plan = program.plan
    if plan.budget and plan.total_bytes > plan.budget:
        raise ValueError(
            f"{plan.heads} heads, {plan.together} at a time, need {_mib(plan.total_bytes)} a device, but "
            f"{_mib(plan.budget)} are there: features {_mib(plan.batch_bytes)}, parameters and moments "
            f"{_mib(plan.state_bytes)}, gradients and activations {_mib(plan.working_bytes)}. {ADVICE}"
        )
    return program


def faster(work: Work, vmap: Program, loop: Program, batch: Batch) -> Program:
    """Times both in turns, on states of their own, and returns the faster with the timing in its plan."""
    together, alone = _clock(work, vmap, 1, batch), _clock(work, loop, min(HEADS_TIMED, loop.plan.groups), batch)
    pairs = [(together(), alone()) for _ in range(ROUNDS)]
    timing = Timing(*(statistics.median(column) for column in zip(*pairs, strict=True)))
    chosen = vmap if timing.vmap_s <= timing.loop_s else loop
    return dataclasses.replace(chosen, plan=dataclasses.replace(chosen.plan, timing=timing))


def free_bytes(device: Any) -> int:
    """Bytes of memory that are free on a device, a tenth of the whole kept back; 0 where the platform cannot say."""
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit", 0)
    return max(int(FREE_SHARE * limit) - stats.get("bytes_in_use", 0), 1) if limit else 0


def _clock(work: Work, program: Program, calls: int, batch: Batch) -> Callable[[], float]:
    """A function that runs a group's step `calls` times and returns the seconds that all heads would take."""
    placed, plan = jax.device_put(batch, program.batch), program.plan
    points = work.points_Hx2[plan.places[: plan.together]].astype(jnp.result_type(float))
    state = jax.jit(lambda: work.fresh(plan.together), out_shardings=program.state)()
    state, _ = jax.block_until_ready(program.run(state, points, placed))  # the first call is slower

    def seconds() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(calls):
            state, _ = program.run(state, points, placed)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / calls * plan.groups

    return seconds


def _divisors(count: int) -> list[int]:
    """From the largest to 1."""
    return [group for group in range(count, 0, -1) if count % group == 0]


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
