"""From the first state to the last checkpoint: the services of the loop, and what follows an alarm."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from surgmotion_jax.checkpoints.best import Best
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.pretrain.bench.timing import mfu
from surgmotion_jax.pretrain.config import as_dict
from surgmotion_jax.pretrain.loop import Halted, NonFinite, Services, last_step, train
from surgmotion_jax.pretrain.monitor.heldout import evaluate_heldout
from surgmotion_jax.pretrain.monitor.interruption import Interruption
from surgmotion_jax.pretrain.monitor.progress import Progress, duration
from surgmotion_jax.pretrain.monitor.rollback import Rollback, passed_over, read_rollbacks, write_rollbacks
from surgmotion_jax.pretrain.monitor.snapshot import write_snapshot
from surgmotion_jax.pretrain.monitor.watch import Ending
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.setup.machine import memory_gb
from surgmotion_jax.pretrain.state import TrainState, abstract_state
from surgmotion_jax.records import MetricsWriter

INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class Programs:
    """Everything that is compiled before the first step."""

    masks: tuple[Any, ...]
    steps: dict[str, Any]  # training steps by the name of their mask program
    heldout: Any
    probe: Any = None  # a `Probe`, or None


class Training:
    """Runs the loop, again after each rollback. `session` has config, layout, workdir, store, group, data and voice."""

    def __init__(self, session: Any, programs: Programs, dataset: Any, begin: int, interruption: Interruption) -> None:
        self.session, self.config, self.programs, self.dataset = session, session.config, programs, dataset
        self.interruption, self.store = interruption, session.store
        self.fields = ManifestFields("pretrain", architecture(self.config.model), as_dict(self.config))
        self.progress = Progress(sys.stdout, begin, last_step(self.config), session.first)
        self.writer = self._writer(begin)
        self.rollbacks = read_rollbacks(session.workdir) if begin else ()
        if not begin and session.first and read_rollbacks(session.workdir):
            write_rollbacks(session.workdir, ())  # of a run whose checkpoints are gone
        self.held = list(session.heldout_batches(dataset))
        self.source: Iterator[Any] | None = None

    def run(self, state: TrainState) -> tuple[TrainState, Ending]:
        """Trains until the end, an interruption, or an alarm that nothing more is done about."""
        begin = int(state.step)
        self.event(begin, "resume" if begin else "start")
        while True:
            services = self.services(int(state.step))
            state, ending = train(self.config, self.programs.masks, self.programs.steps, state, services)
            if ending.kind != "alarm":
                break
            refusal = self.refusal(ending)
            if refusal:
                ending = dataclasses.replace(ending, reason=f"{ending.reason}; {refusal}")
                break
            del state, services  # before there is another
            state = self.go_back(ending)
        self.store.wait()
        self.event(ending.step, f"stopped: {ending.reason}" if ending.reason else ending.kind)
        return state, ending

    def services(self, step: int) -> Services:
        config, session, held = self.config, self.session, self.held
        skipped, best = passed_over(self.rollbacks), self.store.best()
        self.source = session.batches(self.dataset, step, self.event, skipped)
        flops = step_flops(config, self.programs.masks).model
        device = session.layout.mesh.devices.flat[0].device_kind

        def picture(step: int, shown: Any) -> None:
            if session.first:
                write_snapshot(session.workdir, config, step, shown, held[0][1])

        return Services(
            batches=self.source,
            evaluate=lambda state: evaluate_heldout(self.programs.heldout, state, (batch for batch, _ in held)),
            save=self.save,
            record=self.writer.write,
            event=self.event,
            progress=self.progress.update,
            picture=picture,
            interrupted=self.interruption.requested,
            memory_gb=memory_gb,
            probe=self.programs.probe,
            best=best.value if best and best.metric == config.checkpoint.keep_best else float("-inf"),
            passed_over=skipped,
            mfu=lambda seconds: mfu(flops, seconds, device, session.layout.mesh.size, config.model.dtype),
        )

    def event(self, step: int, text: str) -> None:
        self.writer.event(step, text)
        self.progress.say(f"step {step}: {text}")

    def save(self, step: int, state: TrainState, value: float | None) -> None:
        best = None if value is None else Best(step, self.config.checkpoint.keep_best, value)
        if not self.store.save(step, state, self.fields, best=best):
            self.event(step, "checkpoint could not be saved; training goes on")

    def refusal(self, ending: Ending) -> str:
        """Why an alarm ends the run and is not followed by a rollback, or nothing."""
        alarms = self.config.alarms
        self.store.wait()
        self.session.group.meet(f"alarm at step {ending.step}")  # until the last save has been pruned
        steps = self.store.steps()
        kept = f"checkpoints on disk: {', '.join(map(str, steps)) or 'none'}"
        sound = f"the last step without such an alarm is {ending.sound}; {kept}"
        if alarms.action == "stop":
            return f"nothing more was saved (alarms.action = stop); {sound}"
        if len(self.rollbacks) >= alarms.rollbacks:
            times = f"{len(self.rollbacks)} times already (alarms.rollbacks = {alarms.rollbacks})"
            return f"this run has gone back {times}; {sound}"
        if not any(step <= ending.sound for step in steps):
            return f"there is no checkpoint at or before step {ending.sound} to go back to; {kept}"
        return ""

    def go_back(self, ending: Ending) -> TrainState:
        """The newest sound checkpoint from before the trouble; what came later is dropped, its data passed over."""
        session, config = self.session, self.config
        if self.source is not None:
            self.source.close()  # type: ignore[attr-defined]
        self.store.discard_after(ending.sound)
        restored = self.store.restore(abstract_state(config, session.layout), architecture=architecture(config.model))
        self.rollbacks = (*self.rollbacks, Rollback(ending.step, restored.step, ending.reason))
        if session.first:
            write_rollbacks(session.workdir, self.rollbacks)
        self.writer.close()
        self.writer = self._writer(restored.step)
        self.event(
            restored.step,
            f"rollback {len(self.rollbacks)} of at most {config.alarms.rollbacks}: from step {ending.step} to the "
            f"checkpoint of step {restored.step}, and on with other data, because {ending.reason}",
        )
        return TrainState(*restored.state)

    def _writer(self, step: int) -> MetricsWriter:
        writer = MetricsWriter(self.session.workdir, self.session.first, self.session.tensorboard())
        writer.rewind(step)
        return writer


def run_training(session: Any, programs: Programs, state: TrainState, dataset: Any) -> int | Halted:
    """Trains from `state` on. Returns the exit code of the command, or why the run was ended.

    Returned, not raised: all processes have come to the same end, and may leave one another in order.
    """
    started = time.monotonic()
    with Interruption() as interruption:
        training = Training(session, programs, dataset, int(state.step), interruption)
        state, ending = training.run(state)
    training.writer.close()
    say = training.progress.say
    if ending.kind in ("alarm", "nonfinite"):
        kind = NonFinite if ending.kind == "nonfinite" else Halted
        return kind(f"{session.workdir}: stopped at step {ending.step}: {ending.reason}")
    say(f"{ending.kind} at step {ending.step} after {duration(time.monotonic() - started)}; {session.workdir}")
    if ending.kind == "interrupted":
        say("repeat the command to resume")
        return INTERRUPTED if interruption.signal == signal.SIGINT else session.config.run.stopped_code
    best = session.store.best()
    if best is not None:
        say(f"best by {best.metric}: {best.value:.3f} at step {best.step}; {session.workdir / 'best'} names it")
    say(f"next: surgmotion report {session.workdir}")
    return 0
