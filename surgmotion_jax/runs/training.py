"""From the first state to the last checkpoint: the services of the loop, and what follows an alarm."""

from __future__ import annotations

import dataclasses
import importlib.util
import signal
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal

from surgmotion_jax.checkpoints.best import Best
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.pretrain.bench.timing import mfu
from surgmotion_jax.pretrain.config import RunConfig, as_dict
from surgmotion_jax.pretrain.loop import Services, last_step, train
from surgmotion_jax.pretrain.monitor.heldout import Pictured, evaluate_heldout
from surgmotion_jax.pretrain.monitor.interruption import Interruption
from surgmotion_jax.pretrain.monitor.progress import Progress, duration
from surgmotion_jax.pretrain.monitor.rollback import Rollback, passed_over, read_rollbacks, write_rollbacks
from surgmotion_jax.pretrain.monitor.snapshot import write_snapshot
from surgmotion_jax.pretrain.monitor.watch import Halt
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.plan.cost import step_flops
from surgmotion_jax.pretrain.setup.machine import memory_gb
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.records import MetricsWriter
from surgmotion_jax.runs.clips import Clips
from surgmotion_jax.runs.ending import Ending, Kind
from surgmotion_jax.runs.programs import Programs
from surgmotion_jax.runs.save_failures import traces_in_file, unsaved_reason
from surgmotion_jax.runs.session import Session
from surgmotion_jax.runs.slow import told_while_waiting

SAVING = ("finished", "interrupted")  # ends of the loop at which it saves its state


@dataclass(frozen=True)
class Ready:
    """All that training takes besides a state: what to compute, on what, and the form of the state to restore."""

    session: Session
    programs: Programs
    clips: Clips
    abstract: TrainState


def train_ready(ready: Ready, state: TrainState) -> Ending:
    """Trains from a state to the run's ending, and says what to do next. Donates the state."""
    started = time.monotonic()
    with traces_in_file(ready.session.workdir), Interruption() as interruption:
        training = Training(ready, int(state.step), interruption)
        try:
            ending = training.run(state)
        finally:
            training.stop_reading()
    training.close(ending, duration(time.monotonic() - started))
    return ending


def wants_tensorboard(run: RunConfig) -> bool:
    """Whether to write for TensorBoard too. Raises ValueError where that is asked for and cannot be."""
    if run.tensorboard == "off":
        return False
    found = importlib.util.find_spec("tensorboardX") is not None
    if run.tensorboard == "on" and not found:
        raise ValueError("run.tensorboard is 'on' but tensorboardX is not installed; pip install -e '.[tensorboard]'.")
    return found


class Training:
    """Runs the loop, again after each rollback."""

    def __init__(self, ready: Ready, begin: int, interruption: Interruption) -> None:
        session, config = ready.session, ready.session.config
        self.ready, self.session, self.config = ready, session, config
        self.interruption, self.store = interruption, session.store
        self.fields = ManifestFields("pretrain", architecture(config.model), as_dict(config))
        self.progress = Progress(session.stream, begin, last_step(config), session.first)
        self.writer = self._writer(begin)
        self.latest: dict[str, float] = {}
        self.rollbacks = read_rollbacks(session.workdir) if begin else ()
        if not begin and session.first and read_rollbacks(session.workdir):
            write_rollbacks(session.workdir, ())  # of a run whose checkpoints are gone
        self.held = list(ready.clips.heldout())
        self.source: Generator[RawBatch, None, None] | None = None

    def run(self, state: TrainState) -> Ending:
        """Trains until the end, an interruption, or an alarm that nothing more is done about."""
        begin = int(state.step)
        self.event(begin, "resume" if begin else "start")
        programs = self.ready.programs
        while True:
            services = self.services(int(state.step))
            state, halt = train(self.config, programs.masks, programs.steps, state, services)
            if halt.kind != "alarm":
                break
            refusal = self.refusal(halt)
            if refusal:
                halt = dataclasses.replace(halt, reason=f"{halt.reason}; {refusal}")
                break
            del state, services  # before there is another
            state = self.go_back(halt)
        self.stop_reading()
        self.complete_save()
        ending = self.ending(halt)
        self.event(ending.step, f"stopped: {ending.reason}" if ending.reason else halt.kind)
        return ending

    def ending(self, halt: Halt) -> Ending:
        """What the loop's end means for the run."""
        kind: Kind = halt.kind
        reason = halt.reason
        if halt.kind == "interrupted" and self.interruption.signal != signal.SIGINT:
            kind = "stopped"
        if halt.kind in SAVING and halt.step > 0:
            self.session.group.meet(f"saved at step {halt.step}")  # until every process's part is there
            reason = unsaved_reason(self.store, halt.step, self.ready.abstract)
            kind = "unsaved" if reason else kind
        return Ending(kind, halt.step, self.session.workdir, reason, self.store.best(), dict(self.latest))

    def close(self, ending: Ending, took: str) -> None:
        """Completes the files, and says how the run ended and what comes next."""
        self.writer.close()
        if ending.reason:
            return
        say, word = self.progress.say, "finished" if ending.complete else "interrupted"
        say(f"{word} at step {ending.step} after {took}; {ending.workdir}")
        if not ending.complete:
            say("repeat the command to resume")
            return
        best = ending.best
        if best is not None:
            say(f"best by {best.metric}: {best.value:.3f} at step {best.step}; {ending.workdir / 'best'} names it")
        say(f"next: surgmotion report {ending.workdir}")

    def services(self, step: int) -> Services:
        config, session, held, clips = self.config, self.session, self.held, self.ready.clips
        programs, skipped, best = self.ready.programs, passed_over(self.rollbacks), self.store.best()
        self.source = clips.training(step, skipped, self.event)
        flops, width = step_flops(config, programs.masks).model, config.model.encoder.width
        mesh = session.layout.mesh

        def picture(step: int, shown: Pictured) -> None:
            if not session.first:
                return
            try:
                write_snapshot(session.workdir, config, step, shown, held[0][1])
            except OSError as error:
                what = error.strerror or str(error)
                self.event(step, f"the clips of the report were not written ({what}); training goes on without them")

        return Services(
            batches=self.source,
            evaluate=lambda state: evaluate_heldout(programs.heldout, state, (batch for batch, _ in held), width),
            save=self.save,
            record=self.record,
            event=self.event,
            progress=self.progress.update,
            picture=picture,
            interrupted=self.interruption.requested,
            memory_gb=memory_gb,
            probe=programs.probe,
            best=best.value if best and best.metric == config.checkpoint.keep_best else float("-inf"),
            passed_over=skipped,
            mfu=lambda seconds: mfu(flops, seconds, mesh.devices.flat[0].device_kind, mesh.size, config.model.dtype),
        )

    def record(self, kind: Literal["train", "heldout"], step: int, metrics: Mapping[str, float]) -> None:
        self.writer.write(kind, step, metrics)
        self.latest |= metrics

    def event(self, step: int, text: str) -> None:
        self.writer.event(step, text)
        self.progress.say(f"step {step}: {text}")

    def save(self, step: int, state: TrainState, value: float | None) -> None:
        self.complete_save()
        best = None if value is None else Best(step, self.config.checkpoint.keep_best, value)
        if not self.store.save(step, state, self.fields, best=best):
            self.record_failure()

    def stop_reading(self) -> None:
        """Ends the threads and processes that decode ahead."""
        if self.source is not None:
            self.source.close()

    def complete_save(self) -> None:
        """Waits for the save in flight, and says so where that takes long."""
        with told_while_waiting(f"the checkpoint to be written to {self.store.directory}", self.progress.say):
            saved = self.store.wait()
        if not saved:
            self.record_failure()

    def record_failure(self) -> None:
        """Keeps a failed save among the events; the store has said it."""
        failure = self.store.failure
        if failure is not None:
            self.writer.event(failure.step, f"checkpoint not saved, training goes on: {failure.reason}")

    def refusal(self, halt: Halt) -> str:
        """Why an alarm ends the run and is not followed by a rollback, or nothing."""
        alarms = self.config.alarms
        self.store.wait()
        self.session.group.meet(f"alarm at step {halt.step}")  # until the last save has been pruned
        steps = self.store.steps()
        kept = f"checkpoints on disk: {', '.join(map(str, steps)) or 'none'}"
        sound = f"the last step without such an alarm is {halt.sound}; {kept}"
        if alarms.action == "stop":
            return f"nothing more was saved (alarms.action = stop); {sound}"
        if len(self.rollbacks) >= alarms.rollbacks:
            times = f"{len(self.rollbacks)} times already (alarms.rollbacks = {alarms.rollbacks})"
            return f"this run has gone back {times}; {sound}"
        if not any(step <= halt.sound for step in steps):
            return f"there is no checkpoint at or before step {halt.sound} to go back to; {kept}"
        return ""

    def go_back(self, halt: Halt) -> TrainState:
        """The newest sound checkpoint from before the trouble; what came later is dropped, its data passed over."""
        session, config = self.session, self.config
        self.stop_reading()
        self.store.discard_after(halt.sound)
        restored = self.store.restore(self.ready.abstract, architecture=architecture(config.model))
        self.rollbacks = (*self.rollbacks, Rollback(halt.step, restored.step, halt.reason))
        if session.first:
            write_rollbacks(session.workdir, self.rollbacks)
        self.writer.close()
        self.writer = self._writer(restored.step)
        self.event(
            restored.step,
            f"rollback {len(self.rollbacks)} of at most {config.alarms.rollbacks}: from step {halt.step} to the "
            f"checkpoint of step {restored.step}, and on with other data, because {halt.reason}",
        )
        return TrainState(*restored.state)

    def _writer(self, step: int) -> MetricsWriter:
        writer = MetricsWriter(self.session.workdir, self.session.first, wants_tensorboard(self.config.run))
        writer.rewind(step)
        return writer
