"""What the loop remembers of a run's health, and when that ends a stretch of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from surgmotion_jax.pretrain.config.monitor import AlarmConfig
from surgmotion_jax.pretrain.monitor.alarms import collapse_alarms, spike_alarm


@dataclass(frozen=True)
class Halt:
    """Why the loop returned, at which step, and for an alarm: the last step that it gives no reason to doubt."""

    kind: Literal["finished", "interrupted", "alarm", "nonfinite"]
    step: int
    reason: str = ""
    sound: int = 0


@dataclass
class Watch:
    """Compares what is logged with the thresholds. `event` is told of every alarm.

    `sound_logged` and `sound_evaluated` are the last steps without an alarm of their kind: a collapse that an
    evaluation finds may have begun at any step since the evaluation before. The step at which a run starts or resumes
    counts as sound.
    """

    config: AlarmConfig
    begin: int
    event: Callable[[int, str], None]
    halt: Halt | None = None
    skipped: int = 0  # updates in a row, up to the last logged step
    losses: deque[float] = field(init=False)
    sound_logged: int = field(init=False)
    sound_evaluated: int = field(init=False)

    def __post_init__(self) -> None:
        self.losses = deque(maxlen=self.config.spike_window)
        self.sound_logged = self.sound_evaluated = self.begin

    def logged(self, step: int, loss: float, rows: Sequence[Mapping[str, np.ndarray | float]]) -> None:
        """Takes a logged loss and the metrics of each step behind it."""
        for row in rows:
            self.skipped = self.skipped + 1 if row["optim/skipped"] else 0
        if self.skipped >= self.config.nonfinite_steps:
            self.halt = Halt("nonfinite", step, self._nonfinite(step))
            return
        alarm = spike_alarm(step, loss, self.losses, self.config)
        self.losses.append(loss)
        self._judge(step, [alarm] if alarm else [], self.sound_logged)
        self.sound_logged = self.sound_logged if alarm else step

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the gauges of a held-out evaluation."""
        alarms = collapse_alarms(step, metrics, self.config)
        self._judge(step, alarms, self.sound_evaluated)
        self.sound_evaluated = self.sound_evaluated if alarms else step

    def _judge(self, step: int, alarms: Sequence[str], sound: int) -> None:
        for text in alarms:
            self.event(step, f"alarm: {text}")
        if not alarms or self.config.action == "warn":
            return
        if self.halt is not None and self.halt.kind == "alarm":  # both kinds at one step
            alarms, sound = [self.halt.reason, *alarms], min(sound, self.halt.sound)
        if self.halt is None or self.halt.kind == "alarm":
            self.halt = Halt("alarm", step, "; ".join(alarms), sound)

    def _nonfinite(self, step: int) -> str:
        return (
            f"{self.skipped} updates in a row up to step {step} were skipped because loss or gradient was not finite "
            f"(alarms.nonfinite_steps = {self.config.nonfinite_steps}); the state is that of the last good step. "
            "Lower optim.lr, or look at the data of these steps."
        )
