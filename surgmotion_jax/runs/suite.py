"""A benchmark that one person runs and another reads: the step and its parts, attention, input and heads.

Every figure is a median over rounds, in which what is compared takes turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from surgmotion_jax.evaluate.heads.clock import CLASSES, SweepClock, features_of, grid_of
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.pages.suite import Part, Suite
from surgmotion_jax.parallel.topology import Topology, chip_of
from surgmotion_jax.pretrain.bench.blocks import block_clocks
from surgmotion_jax.pretrain.bench.parts import measured_parts
from surgmotion_jax.pretrain.bench.steps import repeated, whole_step
from surgmotion_jax.pretrain.bench.timing import Quartiles, StepTime, quartiles, take_turns
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.plan import time_of
from surgmotion_jax.runs.benchmark import (
    PROFILED_STEPS,
    SYNTHETIC,
    Request,
    device_text,
    loaded,
    placed,
    subject_of,
    synthetic_batch,
    versions,
)

WARMUP = 2
HEADS, HEAD_ROWS, HEAD_ROUNDS, HEAD_DEPTH = 20, 4, 5, 4  # of the sweep, as evaluations have them
MOST_ROWS = 64  # clips of the block that is timed alone
STRATEGIES = ("vmap", "loop")


def suite(config: PretrainConfig, steps: int, say: Callable[[str], None]) -> Suite:
    """Times everything, one after the other. Raises ValueError for what does not fit the devices, before any of it."""
    config, layout, program = placed(config)
    synthetic = [source.path for source in config.data.sources.values()] == [SYNTHETIC]
    say("the step")
    step = whole_step(config, program, layout, repeated(synthetic_batch(config, layout)))
    subject = subject_of(config, program, layout, step)
    subject.times = take_turns({"step": step}, WARMUP, steps)["step"]
    text = step.compiled.as_text()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(PROFILED_STEPS):
                step()
        measured = measured_parts(Path(folder), text, PROFILED_STEPS)
    chip = chip_of(jax.devices()[0].device_kind)
    here = Topology("here", chip, max(1, layout.mesh.size // chip.devices), True) if chip else None
    estimate = time_of(config, here, program, text) if here else None
    estimated = {name: found.plain for name, found in estimate.parts.items()} if estimate else {}
    del step, subject.step
    say("attention")
    rows = max(1, min(MOST_ROWS, config.optim.batch // layout.mesh.size))
    clocks, missing = block_clocks(config.model.encoder, config.grid, rows)
    attention = {name: _of(times) for name, times in take_turns(clocks, WARMUP, steps).items()}
    del clocks
    say("heads")
    sweep, heads = _sweep(config)
    found_input = None
    if not synthetic:
        say("input")
        found_input = _input(config, layout, steps)
    c = config.model.encoder
    return Suite(
        device_text(),
        versions(),
        f"{config.model.variant}, {config.data.frames} x {config.augment.crop} x {config.augment.crop}, batch "
        f"{config.optim.batch}, {config.model.dtype}, attention {config.model.attention}; {subject.masks}",
        subject.seconds,
        config.optim.batch / subject.seconds.median,
        subject.mfu,
        estimate.total.plain if estimate else None,
        tuple(Part(name, seconds, estimated.get(name)) for name, seconds in measured.items()),
        attention,
        missing,
        f"{rows} x {config.grid.tokens} tokens x {c.width}, {c.heads} heads of {c.head_dim}, {c.dtype}",
        found_input,
        sweep,
        heads,
    )


def _of(times: list[StepTime]) -> Quartiles:
    return quartiles([one.total for one in times])


def _sweep(config: PretrainConfig) -> tuple[dict[str, Quartiles], str]:
    """A step of attentive heads on features of the config's encoder, both ways."""
    c, tokens = config.model.encoder, config.grid.tokens
    probe = ProbeConfig(c.width, len(CLASSES), depth=HEAD_DEPTH, heads=c.heads)
    batch = features_of(HEAD_ROWS, tokens, c.width)
    clocks = {name: SweepClock(probe, grid_of(HEADS), batch, name) for name in STRATEGIES}
    timed = take_turns({name: _as_step(clock) for name, clock in clocks.items()}, 1, HEAD_ROUNDS)
    shape = f"{HEADS} attentive heads of {HEAD_DEPTH} layers on {HEAD_ROWS} x {tokens} tokens x {c.width}, float32"
    return {name: _of(times) for name, times in timed.items()}, shape


def _as_step(clock: Callable[[], float]) -> Callable[[], StepTime]:
    return lambda: StepTime(0.0, 0.0, clock())


def _input(config: PretrainConfig, layout: Any, steps: int) -> float:
    """Clips a second that decoding gives with nothing beside it."""
    with ExitStack() as stack:
        batches: Iterator[Any] = loaded(config, layout, Request({}, steps, WARMUP), stack)
        for _ in range(WARMUP):
            next(batches)
        started = time.perf_counter()
        for _ in range(steps):
            next(batches)
        return steps * config.optim.batch / (time.perf_counter() - started)
