"""The loss terms and their weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from surgmotion_jax.checks import at_least, one_of


@dataclass(frozen=True)
class MotionLossConfig:
    """L_motion, motion-guided latent masked prediction."""

    weight: float = 1.0  # its weight in the total
    scope: str = "dense"  # topk: the paper's formula read literally; dense: every masked token, weighted by motion
    reduce: str = "auto"  # sum (total weight K + 1), mean (total weight 1); auto: sum under topk, mean under dense
    top_k: int = 3  # K tubes with the highest score (topk)
    gamma: float = 2.0  # temperature of their weights (topk)
    alpha: float = 2.0  # extra weight of the most moving token (dense); 0 is plain V-JEPA
    score_norm: str = "zscore"  # none, zscore, minmax over the clip's masked tubes (topk)

    def __post_init__(self) -> None:
        one_of("loss.motion.scope", self.scope, ("topk", "dense"))
        one_of("loss.motion.reduce", self.reduce, ("auto", "sum", "mean"))
        one_of("loss.motion.score_norm", self.score_norm, ("none", "zscore", "minmax"))
        at_least("loss.motion.top_k", self.top_k, 1)
        at_least("loss.motion.alpha", self.alpha, 0)
        at_least("loss.motion.weight", self.weight, 0)


@dataclass(frozen=True)
class AffinityLossConfig:
    """L_st, spatiotemporal affinity self-distillation."""

    weight: float = 0.1  # its weight in the total; 0 leaves it out
    tau: float = 0.1  # temperature
    rows: int = 256  # rows of the affinity matrices held at a time
    max_tokens: int = 0  # masked tokens of a clip that are compared, evenly spaced; 0: all

    def __post_init__(self) -> None:
        at_least("loss.affinity.weight", self.weight, 0)
        at_least("loss.affinity.rows", self.rows, 1)
        at_least("loss.affinity.max_tokens", self.max_tokens, 0)
        if self.max_tokens == 1:
            raise ValueError(
                "loss.affinity.max_tokens is 1, and a token alone has no affinity; use 0 (all) or 2 and more."
            )
        if not self.tau > 0:
            raise ValueError(f"loss.affinity.tau is {self.tau}; a temperature is positive.")


@dataclass(frozen=True)
class DiversityLossConfig:
    """L_var, spatiotemporal feature diversity regularisation (SFDR)."""

    weight: float = 0.3  # its weight in the total; 0 leaves it out
    sigma: float = 1.0  # standard deviation below which the hinge is active
    eps: float = 1e-4  # added to the variance inside the square root

    def __post_init__(self) -> None:
        at_least("loss.diversity.weight", self.weight, 0)
        at_least("loss.diversity.eps", self.eps, 0)


@dataclass(frozen=True)
class LossConfig:
    """L = motion.weight L_motion + affinity.weight L_st + diversity.weight L_var."""

    motion: MotionLossConfig = field(default_factory=MotionLossConfig)
    affinity: AffinityLossConfig = field(default_factory=AffinityLossConfig)
    diversity: DiversityLossConfig = field(default_factory=DiversityLossConfig)
    stop_gradient: bool = True  # False lets the gradient into the targets: features collapse; shows the gauges at work
