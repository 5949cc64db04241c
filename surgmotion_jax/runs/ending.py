"""How a training run ended: a value that says so, whatever the reason, for whoever started the run to act on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from etils import epath

from surgmotion_jax.checkpoints.best import Best

Kind = Literal["finished", "nothing-to-do", "interrupted", "stopped", "alarm", "nonfinite", "unsaved"]


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
      kind: `finished`: the last step was made and saved; `nothing-to-do`: it had been before; `interrupted` by Ctrl-C
        and `stopped` by SIGTERM: the state was saved, and repeating the run resumes; `alarm`: an alarm whose action
        asks for it ended the run; `nonfinite`: too many updates in a row were skipped; `unsaved`: the last state could
        not be written.
      step: the steps that are done.
      workdir: where checkpoints, metrics and pictures are.
      reason: a sentence or two, where the run did not end as it should.
      best: the best checkpoint by `checkpoint.keep_best`, where there is one.
      metrics: the latest value of every metric that was recorded.
    """

    kind: Kind
    step: int
    workdir: epath.Path
    reason: str = ""
    best: Best | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Whether every step is done and saved."""
        return self.kind in ("finished", "nothing-to-do")
