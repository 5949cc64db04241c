"""Our training step as a subject of a benchmark: compiled, fed, and timed part by part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from surgmotion_jax.parallel.mesh import MeshLayout, to_global
from surgmotion_jax.pretrain.bench.timing import StepTime
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState, create_state
from surgmotion_jax.pretrain.step import compile_train_step

Counts = tuple[tuple[int, int], ...]  # context and target tokens of each mask set


class Compilation(NamedTuple):
    """What compiling a step took, and the compiler's account of its memory on one device, in bytes."""

    seconds: float
    arguments: int
    temporaries: int


@dataclass
class OurStep:
    """A compiled step with its state and its batches; calling it makes one step."""

    compiled: Any
    compilation: Compilation
    state: TrainState
    batches: Iterator[Any]  # this process's rows, in host memory
    layout: MeshLayout
    batch: int
    loss: float = float("nan")  # of the latest step

    def __call__(self) -> StepTime:
        started, cpu = time.perf_counter(), time.process_time()
        local = next(self.batches)
        waited = time.perf_counter()
        batch = jax.block_until_ready(to_global(self.layout, local, self.batch))
        there = time.perf_counter()
        self.state, metrics = jax.block_until_ready(self.compiled(self.state, batch))
        ended = time.perf_counter()
        spent = time.process_time() - cpu
        self.loss = float(metrics["loss/total"])
        return StepTime(waited - started, there - waited, ended - there, spent)


def whole_step(config: PretrainConfig, program: MaskProgram, layout: MeshLayout, batches: Iterator[Any]) -> OurStep:
    """The step that training runs, on raw clips."""
    started = time.perf_counter()
    compiled = compile_train_step(config, program, layout)
    taken = compilation_of(compiled, time.perf_counter() - started)
    return OurStep(compiled, taken, create_state(config, layout), batches, layout, config.optim.batch)


def compilation_of(compiled: Any, seconds: float) -> Compilation:
    """The compiler's account of a program; zeros where the platform gives none."""
    memory = compiled.memory_analysis()
    if memory is None:
        return Compilation(seconds, 0, 0)
    return Compilation(seconds, memory.argument_size_in_bytes, memory.temp_size_in_bytes)


def repeated(batch: Any) -> Iterator[Any]:
    """The same batch for ever: its data is there at once."""
    while True:
        yield batch


def synthetic_clips(config: PretrainConfig, rows: tuple[int, int]) -> RawBatch:
    """Textures that drift, uint8, the same for the same rows: video-like, and no two clips alike."""
    height, width = config.data.canvas
    clips = []
    for row in range(*rows):
        rng = np.random.default_rng(row)
        coarse = rng.uniform(30, 220, (-(-height // 8) + 1, -(-width // 8) + 1, 3)).repeat(8, 0).repeat(8, 1)
        frames = [np.roll(coarse, (t // 2, t), (0, 1))[:height, :width] for t in range(config.data.frames)]
        clips.append(np.stack(frames) + rng.normal(0, 4, (config.data.frames, height, width, 3)))
    video = np.clip(np.stack(clips), 0, 255).astype(np.uint8)
    valid = np.ones(video.shape[:2], bool)
    return RawBatch(video, valid, np.arange(*rows, dtype=np.uint32))  # type: ignore[arg-type]


def counts_of(program: MaskProgram) -> Counts:
    """Context and target tokens of each mask set of a program."""
    return tuple(zip(program.contexts, program.targets, strict=True))
