"""Commands by name, imported only when run, so that `--help` is instant and a missing extra hurts nobody else."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from surgmotion_jax.checks import did_you_mean

TERMINATED = 143
"""Exit code of a command that SIGTERM ended, as a shell counts; `pretrain` has its own, `run.stopped_code`."""


class Command(NamedTuple):
    """Where a command's `main(argv) -> exit code` lives, and one line of help."""

    target: str  # "module:function"
    help: str


COMMANDS: dict[str, Command] = {
    "pretrain": Command("surgmotion_jax.commands.pretrain:main", "train an encoder on videos"),
    "report": Command("surgmotion_jax.commands.report:main", "write one HTML page about a pretraining workdir"),
    "convert": Command("surgmotion_jax.commands.convert:main", "turn PyTorch weights into ours, and ours into theirs"),
    "extract": Command("surgmotion_jax.commands.extract:main", "write the features of videos, window by window"),
    "export": Command(
        "surgmotion_jax.commands.export:main", "write an encoder as StableHLO, checked against the original"
    ),
    "simulate": Command("surgmotion_jax.commands.simulate:main", "write simulated surgery in the layout of a data set"),
    "evaluate": Command("surgmotion_jax.commands.evaluate:main", "score an encoder on a benchmark"),
    "compare": Command("surgmotion_jax.commands.compare:main", "one table of evaluations, with intervals"),
    "study headroom": Command(
        "surgmotion_jax.commands.study_headroom:main", "find out which data sets can tell encoders apart"
    ),
    "study run": Command(
        "surgmotion_jax.commands.study_run:main", "compare arms of pretraining against the strength of nuisance"
    ),
    "ablate": Command("surgmotion_jax.commands.ablate:main", "train the rows of the ablation and write one table"),
    "bench": Command("surgmotion_jax.commands.bench:main", "time the training step, against its variants or PyTorch"),
    "plan": Command("surgmotion_jax.commands.plan:main", "what a run would need of a TPU slice, without having one"),
    "config": Command("surgmotion_jax.commands.config:main", "print every field of a config, with its meaning"),
    "doctor": Command("surgmotion_jax.commands.doctor:main", "show devices, versions, memory; check data"),
    "data preview": Command(
        "surgmotion_jax.commands.data_preview:main", "picture clips with field of view, saliency and masks"
    ),
    "data check": Command(
        "surgmotion_jax.commands.data_check:main", "look a benchmark over: counts, and what is wrong"
    ),
    "data ingest": Command(
        "surgmotion_jax.commands.data_ingest:main", "turn recordings into a corpus without copies and leaks"
    ),
    "data fingerprint": Command(
        "surgmotion_jax.commands.data_fingerprint:main", "list the test videos of a benchmark, to be kept out"
    ),
    "data leaks": Command(
        "surgmotion_jax.commands.data_leaks:main", "say which training videos a benchmark is tested on"
    ),
    "data build": Command("surgmotion_jax.commands.data_build:main", "store a benchmark as a TFDS data set"),
}


def overview(prefix: str = "") -> str:
    """Help text: the commands, or those under a prefix."""
    names = [n for n in COMMANDS if not prefix or n.startswith(prefix + " ")]
    lines = [f"  {name:<16} {COMMANDS[name].help}" for name in names]
    return "\n".join(["usage: surgmotion COMMAND [flags]", "", *lines, "", "surgmotion COMMAND --help says more."])


def resolve(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command that a command line names, nested ones first, and the arguments left.

    Raises ValueError, with the nearest names, for an unknown one.
    """
    for words in (2, 1):
        name = " ".join(argv[:words])
        if len(argv) >= words and name in COMMANDS:
            return name, argv[words:]
    asked = " ".join(argv[:2] if argv and any(n.startswith(argv[0] + " ") for n in COMMANDS) else argv[:1])
    hint = did_you_mean(asked, COMMANDS)
    raise ValueError(f"unknown command {asked!r}; there are {', '.join(COMMANDS)}.{hint}")


def load(name: str) -> Callable[[Sequence[str]], int]:
    """Imports the function of a command."""
    module, function = COMMANDS[name].target.split(":")
    return getattr(importlib.import_module(module), function)
