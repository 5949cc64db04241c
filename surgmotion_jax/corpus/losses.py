"""What is left out of a corpus: which stretch of which file, and why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from surgmotion_jax import storage

COPY, NEAR_COPY, LEAK, UNREADABLE = "exact copy", "near-duplicate", "benchmark", "unreadable"


@dataclass(frozen=True)
class Loss:
    """A stretch, in seconds of the recording."""

    dataset: str
    case: str
    path: str
    start_s: float
    end_s: float
    reason: str
    detail: str = ""  # of what it is a copy, or what a decoder said

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @property
    def text(self) -> str:
        """As a person reads it: `dataset x, video y, 12:10 to 14:02: is cholec80 test video47`."""
        when = f"{clock(self.start_s)} to {clock(self.end_s)}" if self.end_s else "whole"
        return f"dataset {self.dataset}, video {self.case}, {when}: {self.detail or self.reason}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def write_losses(path: storage.PathLike, losses: Iterable[Loss]) -> None:
    """A JSON object a line."""
    storage.write_text_atomic(path, "".join(json.dumps(dataclasses.asdict(loss)) + "\n" for loss in losses))


def read_losses(path: storage.PathLike) -> Sequence[Loss]:
    """What `write_losses` wrote."""
    return [Loss(**json.loads(line)) for line in storage.as_path(path).read_text().splitlines()]
