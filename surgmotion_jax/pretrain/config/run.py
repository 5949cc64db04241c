"""What is evaluated, saved and logged on the way, and where parameters come from."""

from __future__ import annotations

from dataclasses import dataclass

from surgmotion_jax.checks import at_least, between, one_of


@dataclass(frozen=True)
class HeldoutConfig:
    """Evaluation on clips kept aside."""

    every: int = 1000  # steps between evaluations; the last step is always evaluated
    clips: int = 256  # clips evaluated, rounded down to whole batches
    batch: int = 64  # clips per evaluation batch

    def __post_init__(self) -> None:
        at_least("heldout.every", self.every, 1)
        at_least("heldout.batch", self.batch, 2)
        if self.clips < self.batch:
            raise ValueError(
                f"heldout.clips is {self.clips}, fewer than one batch (heldout.batch = {self.batch}); "
                "raise heldout.clips or lower heldout.batch."
            )


@dataclass(frozen=True)
class CheckpointConfig:
    """When the training state is saved, and what is kept."""

    every: int = 1000  # steps between checkpoints; the last step is always saved
    keep: int = 3  # newest checkpoints kept
    keep_every: int = 0  # keep every checkpoint whose step is a multiple, for ever; 0: none
    keep_best: str = ""  # also keep the checkpoint where this metric of the probe was highest, e.g. probe/knn

    def __post_init__(self) -> None:
        at_least("checkpoint.every", self.every, 1)
        at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True)
class InitConfig:
    """Where the parameters come from."""

    checkpoint: str = ""  # a pretraining workdir or converted weights to start from; empty: random weights
    parts: tuple[str, ...] = ("encoder", "predictor", "target")  # what to take of it, where it is there
    optimizer: bool = False  # take its optimiser moments too (V-JEPA 2's cool-down does)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("init.parts is empty; name at least one of encoder, predictor, target.")
        for part in self.parts:
            one_of("init.parts", part, ("encoder", "predictor", "target"))


@dataclass(frozen=True)
class RunConfig:
    """How the run behaves; nothing here changes what is learnt."""

    stop_at_step: int = 0  # stop early, as if the time were up, and save; 0: run to the end
    log_every: int = 10  # steps between metric lines
    tensorboard: str = "auto"  # auto: if tensorboardX is installed; on; off
    compilation_cache: str = "~/.cache/surgmotion_jax/compilation"  # reused by later starts; empty: none
    accept_changes: bool = False  # resume although the stored config differs
    stopped_code: int = 0  # exit code once SIGTERM has stopped and saved a run; launchers that restart failures want 75

    def __post_init__(self) -> None:
        one_of("run.tensorboard", self.tensorboard, ("auto", "on", "off"))
        at_least("run.log_every", self.log_every, 1)
        between("run.stopped_code", self.stopped_code, 0, 255)
