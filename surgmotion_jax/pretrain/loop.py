"""The training loop. Files, clocks and flags come in through `Services`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import jax
import numpy as np

from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.monitor.heldout import Pictured
from surgmotion_jax.pretrain.monitor.watch import Halt, Watch
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.sample.masks import MaskProgram, program_of_step
from surgmotion_jax.pretrain.state import TrainState

Metrics = Mapping[str, float]
OTHER_CONTEXT = "another clip's context"


class TrainStep(Protocol):
    """One compiled training step. It donates the state: the old one must not be used again."""

    def __call__(self, state: TrainState, batch: RawBatch, /) -> tuple[TrainState, Mapping[str, jax.Array]]: ...


@dataclass(frozen=True)
class Services:
    """Everything the loop does besides arithmetic."""

    batches: Iterator[RawBatch]  # global batches from the first step on
    evaluate: Callable[[TrainState], tuple[dict[str, float], Pictured | None]]
    save: Callable[[int, TrainState, float | None], None]  # with the probe's value if it is the best so far
    record: Callable[[Literal["train", "heldout"], int, Metrics], None]
    event: Callable[[int, str], None]
    progress: Callable[[int, str], None]
    picture: Callable[[int, Pictured], None]
    interrupted: Callable[[int], bool]  # whether to stop at this position in the data
    memory_gb: Callable[[], float]
    probe: Callable[[TrainState], dict[str, float]] | None = None
    best: float = float("-inf")  # of `checkpoint.keep_best` so far
    passed_over: int = 0  # steps' worth of data given up by rollbacks: step s takes what comes at s + passed_over
    mfu: Callable[[float], float | None] = lambda _: None  # from seconds per step; None where the peak is not known


@dataclass
class Interval:
    """Steps since the last metrics line. `aside` is time spent on anything but them."""

    started: float
    waited: float = 0.0
    aside: float = 0.0
    metrics: list[Mapping[str, jax.Array]] = field(default_factory=list)

    def next(self, batches: Iterator[RawBatch]) -> RawBatch:
        before = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - before
        return batch

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        if self.metrics:
            jax.block_until_ready(self.metrics[-1])  # stay one step ahead of the device, not many
        self.metrics.append(metrics)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        jax.block_until_ready(self.metrics)
        before = time.monotonic()
        yield
        self.aside += time.monotonic() - before


def train(
    config: PretrainConfig,
    programs: tuple[MaskProgram, ...],
    steps: Mapping[str, TrainStep],
    state: TrainState,
    do: Services,
) -> tuple[TrainState, Halt]:
    """Runs from the state's step to the last, or until interrupted, or until an alarm or skipped updates end it.

    `steps` holds the compiled training step of each mask program by name. A run that finished or was interrupted has
    saved its state; one that was ended has not, so that the last good checkpoint stays the newest.
    """
    step, last = int(state.step), last_step(config)
    saved, best = step, do.best
    watch = Watch(config.alarms, step, do.event)
    if step == 0:
        watch.evaluated(step, hold_out(config, step, state, do))
        probe(config, step, state, do)
    interval = Interval(time.monotonic())
    while watch.halt is None and step < last and not do.interrupted(step + do.passed_over):
        batch = interval.next(do.batches)
        program = program_of_step(programs, config.seed, step + do.passed_over)
        state, metrics = steps[program.name](state, batch)
        step += 1
        interval.add(metrics)

        if _due(step, config.run.log_every, last):
            rows = jax.device_get(interval.metrics)
            watch.logged(step, log(config, step, interval, rows, do), rows)
            interval = Interval(time.monotonic())
        value = None
        if _due(step, config.heldout.every, last) or _due(step, config.probe.every, last):
            with interval.paused():
                if _due(step, config.heldout.every, last):
                    watch.evaluated(step, hold_out(config, step, state, do))
                if watch.halt is None and _due(step, config.probe.every, last):
                    value = probe(config, step, state, do)
        better = value is not None and value > best
        if watch.halt is None and (better or step % config.checkpoint.every == 0):
            best = value if better and value is not None else best
            do.save(step, state, best if better else None)
            saved = step
    if watch.halt is not None:
        return state, watch.halt
    if saved != step:
        do.save(step, state, None)
    return state, Halt("finished" if step >= last else "interrupted", step)


def last_step(config: PretrainConfig) -> int:
    """The step at which this run ends."""
    return min(config.steps, config.run.stop_at_step or config.steps)


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def log(
    config: PretrainConfig, step: int, interval: Interval, rows: Sequence[Mapping[str, np.ndarray]], do: Services
) -> float:
    """Writes the interval's metrics, means over its updates. Returns the mean loss.

    Skipped updates would make every mean NaN: they count in `optim/skipped` alone, unless there are no others.
    """
    elapsed = time.monotonic() - interval.started - interval.aside
    applied = [row for row in rows if not row["optim/skipped"]] or rows
    means = {name: float(np.mean([row[name] for row in applied])) for name in rows[0]}
    means["optim/skipped"] = float(np.mean([row["optim/skipped"] for row in rows]))
    if means["optim/skipped"]:
        do.event(step, f"{sum(bool(r['optim/skipped']) for r in rows)} updates skipped: loss or gradient not finite")
    per_step = elapsed / len(rows)
    means |= {
        "time/step_s": per_step,
        "time/data_wait_share": interval.waited / elapsed,
        "speed/clips_per_s": config.optim.batch / per_step,
        "memory/gb": do.memory_gb(),
    }
    mfu = do.mfu(per_step)
    means |= {} if mfu is None else {"speed/mfu": mfu}
    do.record("train", step, means)
    do.progress(
        step,
        f"loss {means['loss/total']:.4f}  l1 {means['loss/l1']:.4f}  lr {means['optim/lr']:.2e}  "
        f"{means['speed/clips_per_s']:.1f} clips/s",
    )
    return means["loss/total"]


def hold_out(config: PretrainConfig, step: int, state: TrainState, do: Services) -> dict[str, float]:
    """Evaluates on held-out clips, records, keeps the pictures."""
    metrics, pictured = do.evaluate(state)
    do.record("heldout", step, metrics)
    if pictured is not None:
        do.picture(step, pictured)
    loss = metrics["heldout/loss"]
    do.progress(
        step,
        f"held-out {loss:.4f}: {compared(loss, metrics['heldout/constant'], 'a constant')}, "
        f"{compared(loss, metrics['heldout/shuffled'], OTHER_CONTEXT)}; "
        f"RankMe {metrics['gauge/rankme']:.1f}",
    )
    return metrics


def compared(error: float, baseline: float, title: str) -> str:
    """How much better or worse an error is than that of a baseline: '12.5 % worse than a constant'."""
    if not baseline > 0:  # where all targets are alike the best constant makes no error
        return f"n/a against {title}"
    share = 100 * (1 - error / baseline)
    return f"{abs(share):.1f} % {'worse' if share < 0 else 'better'} than {title}"


def probe(config: PretrainConfig, step: int, state: TrainState, do: Services) -> float | None:
    """Probes the frozen encoder, if there is a probe, and records. Returns the metric that decides what is best."""
    if do.probe is None:
        return None
    metrics = do.probe(state)
    do.record("heldout", step, metrics)
    do.progress(
        step,
        f"probe: kNN {100 * metrics['probe/knn']:.1f} %, linear {100 * metrics['probe/linear']:.1f} % "
        f"(chance {100 * metrics['probe/chance']:.1f} %); mean recall {100 * metrics['probe/knn_balanced']:.1f} % and "
        f"{100 * metrics['probe/linear_balanced']:.1f} % (chance {100 * metrics['probe/chance_balanced']:.1f} %)",
    )
    return metrics[config.checkpoint.keep_best] if config.checkpoint.keep_best else None
