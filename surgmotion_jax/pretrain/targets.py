"""Where predicted features come from: a moving average of the encoder, a frozen encoder, or the encoder itself.

A new source is one entry of `SOURCES`. State, step, evaluation, plan and checks follow from the entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from surgmotion_jax.models.parameters import Params


class Networks(Protocol):
    """The networks of a training state."""

    @property
    def params(self) -> Params:
        """What is trained: `encoder`, and the network that predicts."""
        ...

    @property
    def target(self) -> Params:
        """Moving average of the encoder; empty where none is kept."""
        ...

    @property
    def teacher(self) -> Params:
        """Frozen encoder; empty where there is none."""
        ...


@dataclass(frozen=True)
class TargetSource:
    """One entry of the table."""

    title: str  # of the encoder that supplies the targets, in the banner
    supplier: Callable[[Networks], Params]  # the encoder whose features are predicted
    evaluated: Callable[[Networks], Params]  # the encoder that a run is for: gauges, probe and report look at it
    averages: bool = False  # the state keeps a moving average of the encoder, with optim.ema
    teacher: bool = False  # the state holds a frozen encoder, from objective.teacher
    momentum: float | None = None  # the value of optim.ema that says the same; any other contradicts. None: any


def _average(networks: Networks) -> Params:
    return networks.target


def _encoder(networks: Networks) -> Params:
    return networks.params["encoder"]


def _teacher(networks: Networks) -> Params:
    return networks.teacher


# Value of --config.objective.targets -> source.
SOURCES: dict[str, TargetSource] = {
    "ema": TargetSource("target encoder", _average, _average, averages=True),
    "frozen": TargetSource("frozen teacher", _teacher, _encoder, teacher=True, momentum=1.0),
    "online": TargetSource("encoder on the whole clip", _encoder, _encoder, momentum=0.0),
}
