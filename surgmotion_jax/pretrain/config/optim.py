"""The optimiser, its schedules, and the moving average."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.checks import at_least, between, one_of
from surgmotion_jax.optim.kinds import OPTIMIZERS


@dataclass(frozen=True)
class OptimConfig:
    """An optimiser with schedules in steps."""

    kind: str = "adamw"  # adamw, muon (for the matrices of the blocks; Adam for all else)
    batch: int = 256  # clips per step, over all devices and micro-batches
    accumulate: int = 1  # micro-batches per step
    lr: float = 0.0  # learning rate after warm-up; 0: 5.25e-4 * sqrt(batch / 3072)
    warmup_steps: int = 12_000  # linear warm-up
    warmup_from: float = 0.2  # learning rate of its start, as a share of lr
    schedule: str = "constant"  # after warm-up: constant, cosine, linear
    final_lr: float = 0.0  # learning rate at the end of cosine and linear
    decay_steps: int = 0  # steps over which the schedule runs; 0: all steps. V-JEPA runs 1.25 x the steps
    weight_decay: float = 0.04  # decoupled; biases, norms and unused mask tokens are left alone
    final_weight_decay: float = 0.04  # reached along a cosine
    beta1: float = 0.9  # of Adam, as are the next two
    beta2: float = 0.999
    eps: float = 1e-8
    clip: float = 0.0  # largest global gradient norm; 0: no clipping
    ema: float = 0.99925  # momentum of the target encoder
    final_ema: float = 0.99925  # reached linearly
    moments_dtype: str = "float32"  # of the optimiser's moments as stored; bfloat16 (rounded at random) halves them
    offload: bool = False  # keep the moments in the hosts' memory between updates (TPUs and GPUs)

    def __post_init__(self) -> None:
        one_of("optim.kind", self.kind, tuple(OPTIMIZERS))
        one_of("optim.schedule", self.schedule, ("constant", "cosine", "linear"))
        one_of("optim.moments_dtype", self.moments_dtype, ("float32", "bfloat16"))
        at_least("optim.batch", self.batch, 1)
        at_least("optim.accumulate", self.accumulate, 1)
        if self.batch % self.accumulate:
            raise ValueError(
                f"optim.batch {self.batch} is not divisible by optim.accumulate {self.accumulate}; "
                "choose a number of micro-batches that divides the batch."
            )
        for name in ("lr", "warmup_steps", "final_lr", "decay_steps", "weight_decay", "clip"):
            at_least(f"optim.{name}", getattr(self, name), 0)
        between("optim.ema", self.ema, 0.0, 1.0)
        between("optim.final_ema", self.final_ema, 0.0, 1.0)

    @property
    def peak_lr(self) -> float:
        return self.lr or 5.25e-4 * (self.batch / 3072) ** 0.5
