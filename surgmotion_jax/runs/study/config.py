"""What a study is made of. Every field has a default but its tasks; what decides the numbers is all here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from surgmotion_jax.checks import at_least, one_of
from surgmotion_jax.evaluate.anchors import RANDOM, TUNED
from surgmotion_jax.pretrain.rows import choose_rows

VIDEOS = "pretrain"  # the layout to pretrain on


@dataclass(frozen=True)
class StudyWorld:
    """What is simulated in one layout, anew at every strength."""

    cases: int = 24  # operations
    minutes: float = 1.0  # of each
    size: int = 64  # pixels
    fps: float = 0.0  # frames a second that are drawn; 0: the layout's
    zoom: float = 0.0  # of the simulated lens; 0: that of the study

    def __post_init__(self) -> None:
        at_least("worlds.cases", self.cases, 1)
        at_least("worlds.fps", self.fps, 0)


@dataclass(frozen=True)
class StudyTask:
    """Which world is evaluated how, and which measures count."""

    world: str = ""  # its layout
    config: str = ""  # of its evaluation, as evaluate/cholect50:small
    measures: tuple[str, ...] = ()  # each counts as a task
    table: str = ""  # of own_frames: a table of labels in the place of labels.csv
    set: tuple[str, ...] = ()  # fields of that config, as data.frames=4
    tuned: tuple[str, ...] = ()  # more of these where the encoder is trained end to end
    operation: str = ""  # a regular expression of how names of cases of one operation begin; empty: each is its own

    def __post_init__(self) -> None:
        if not (self.world and self.config and self.measures):
            raise ValueError("tasks: each needs its world, the config of an evaluation, and the measures that count")
        try:
            re.compile(self.operation)
        except re.error as error:
            raise ValueError(f"tasks: operation is {self.operation!r}, no regular expression: {error}") from error


@dataclass(frozen=True)
class StudyConfig:
    """Arms times seeds times strengths."""

    worlds: Mapping[str, StudyWorld] = field(default_factory=dict)  # by layout; `pretrain` is what encoders learn from
    tasks: Mapping[str, StudyTask] = field(default_factory=dict)  # by a name of one's own
    pretrain: str = "ablate/study"  # the config that all arms share
    encoder: str = "random:vit_pico/8"  # its architecture, with random weights
    arms: tuple[str, ...] = ("plain", "pixel")  # rows of an ablation, the most important first, run with every seed
    more: tuple[str, ...] = ()  # rows that come after these
    compared: tuple[str, str] = ("plain", "pixel")  # whose difference is tested against strength
    seeds: tuple[int, ...] = (0, 1, 2)  # of encoders and their heads
    strengths: tuple[float, ...] = (0.0, 1.0, 2.0)  # of nuisance, in pretraining and in test
    shares: tuple[float, ...] = (0.1, 0.01)  # of the labelled cases: what anchors and the compared do with fewer
    zoom: float = 3.0  # of the simulated lens
    world: int = 1  # seed of what is simulated; choices are made in another world
    resamples: int = 400  # draws of operations and seeds

    def __post_init__(self) -> None:
        choose_rows(",".join((*self.arms, *self.more)))
        for name in ("tasks", "arms", "seeds", "strengths"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; a study needs one or more")
        if not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"shares is {self.shares}; each is a part of the labelled cases, above 0 and below 1")
        if VIDEOS not in self.worlds:
            raise ValueError(f"worlds has {', '.join(self.worlds) or 'none'}; add {VIDEOS}, which encoders learn from")
        for name, task in self.tasks.items():
            one_of(f"tasks.{name}.world", task.world, tuple(self.worlds))
        if any(name not in self.arms for name in self.compared):
            raise ValueError(f"compared is {self.compared}; both must be among the arms: {', '.join(self.arms)}")

    @property
    def middle(self) -> float:
        """The strength at which there are fewer labels, and pictures."""
        return sorted(self.strengths)[len(self.strengths) // 2]


@dataclass(frozen=True)
class Cell:
    """One arm, with one seed, at one strength, with a share of the labelled cases."""

    arm: str
    seed: int
    strength: float
    share: float = 1.0

    @property
    def name(self) -> str:
        """Its folder among the results."""
        return f"{self.arm}-{self.seed}" + (f"-{self.share:g}" if self.share < 1 else "")


def cells(config: StudyConfig) -> list[Cell]:
    """All work, the most important first: anchors and main arms seed by seed, the other arms a seed later.

    Fewer labels come after the main arms of the first seed, at the strength in the middle.
    """
    found = []
    for place, seed in enumerate((*config.seeds, None)):
        if seed is not None:
            anchors = (RANDOM, TUNED) if place == 0 else (RANDOM,)
            found += [Cell(arm, seed, g) for arm in (*anchors, *config.arms) for g in config.strengths]
            fewer = config.shares if place == 0 else ()
            found += [Cell(arm, seed, config.middle, s) for s in fewer for arm in (*anchors, *config.compared)]
        if place:
            found += [Cell(arm, config.seeds[place - 1], g) for arm in config.more for g in config.strengths]
    return found
