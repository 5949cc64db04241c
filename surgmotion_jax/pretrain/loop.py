"""The training loop. Files, clocks and flags come in through `Services`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np

from surgmotion_jax.pretrain.alarms import collapse_alarms
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.heldout import Pictured
from surgmotion_jax.pretrain.masks import MaskProgram, program_of_step
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.state import TrainState

Metrics = Mapping[str, float]


class NonFinite(RuntimeError):
    """Too many updates in a row were skipped because loss or gradient was not finite."""


@dataclass(frozen=True)
class Services:
    """Everything the loop does besides arithmetic."""

    batches: Iterator[RawBatch]  # global batches from the first step on
    evaluate: Callable[[TrainState], tuple[dict[str, float], Pictured | None]]
    save: Callable[[int, TrainState], None]
    record: Callable[[Literal["train", "heldout"], int, Metrics], None]
    event: Callable[[int, str], None]
    progress: Callable[[int, str], None]
    picture: Callable[[int, Pictured], None]
    interrupted: Callable[[int], bool]  # whether to stop at this step
    memory_gb: Callable[[], float]


@dataclass
class _Interval:
    """Steps since the last metrics line."""

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    metrics: list[Any] = field(default_factory=list)


def train(
    config: PretrainConfig, programs: tuple[MaskProgram, ...], steps: Mapping[str, Any], state: TrainState, do: Services
) -> tuple[TrainState, str]:
    """Runs from the state's step to the last, or until interrupted. Returns the state and 'finished' or 'interrupted'.

    `steps` holds the compiled training step of each mask program by name. Raises NonFinite after
    `alarms.nonfinite_steps` skipped updates in a row.
    """
    step, last, skipped = int(state.step), last_step(config), 0
    interval, saved = _Interval(), step
    if step == 0:
        hold_out(config, step, state, do)
    while step < last and not do.interrupted(step):
        before = time.monotonic()
        batch = next(do.batches)
        interval.waited += time.monotonic() - before

        program = program_of_step(programs, config.seed, step)
        state, metrics = steps[program.name](state, batch)
        step += 1
        if interval.metrics:
            jax.block_until_ready(interval.metrics[-1])  # stay one step ahead of the device, not many
        interval.metrics.append(metrics)

        if step % config.run.log_every == 0 or step == last:
            skipped = log(config, step, interval, skipped, do)
            interval = _Interval()
        if step % config.heldout.every == 0 or step == last:
            hold_out(config, step, state, do)
        if step % config.checkpoint.every == 0:
            do.save(step, state)
            saved = step
    if saved != step:
        do.save(step, state)
    return state, "finished" if step >= last else "interrupted"


def last_step(config: PretrainConfig) -> int:
    """The step at which this run ends."""
    return min(config.steps, config.run.stop_at_step or config.steps)


def log(config: PretrainConfig, step: int, interval: _Interval, skipped: int, do: Services) -> int:
    """Writes the interval's mean metrics. Returns the length of the current run of skipped updates."""
    rows = jax.device_get(interval.metrics)
    elapsed = time.monotonic() - interval.started
    means = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    for row in rows:
        skipped = skipped + 1 if row["optim/skipped"] else 0
    if means["optim/skipped"]:
        do.event(step, f"{sum(bool(r['optim/skipped']) for r in rows)} updates skipped: loss or gradient not finite")
    per_step = elapsed / len(rows)
    means |= {
        "time/step_s": per_step,
        "time/data_wait_share": interval.waited / elapsed,
        "speed/clips_per_s": config.optim.batch / per_step,
        "memory/gb": do.memory_gb(),
    }
    do.record("train", step, means)
    do.progress(
        step,
        f"loss {means['loss/total']:.4f}  l1 {means['loss/l1']:.4f}  lr {means['optim/lr']:.2e}  "
        f"{means['speed/clips_per_s']:.1f} clips/s",
    )
    if skipped >= config.alarms.nonfinite_steps:
        raise NonFinite(
            f"{skipped} updates in a row up to step {step} were skipped because loss or gradient was not finite "
            f"(alarms.nonfinite_steps = {config.alarms.nonfinite_steps}); the state is that of the last good step. "
            "Lower optim.lr, or look at the data of these steps."
        )
    return skipped


def hold_out(config: PretrainConfig, step: int, state: TrainState, do: Services) -> None:
    """Evaluates on held-out clips, records, raises alarms, keeps the pictures."""
    metrics, pictured = do.evaluate(state)
    do.record("heldout", step, metrics)
    for text in collapse_alarms(step, metrics, config.alarms):
        do.event(step, f"alarm: {text}")
    if pictured is not None:
        do.picture(step, pictured)
    gain = {n: 100 * (1 - metrics["heldout/loss"] / metrics[f"heldout/{n}"]) for n in ("constant", "shuffled")}
    do.progress(
        step,
        f"held-out {metrics['heldout/loss']:.4f}: {gain['constant']:+.1f} % better than a constant, "
        f"{gain['shuffled']:+.1f} % than with another clip's context; RankMe {metrics['gauge/rankme']:.1f}",
    )
