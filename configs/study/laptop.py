"""The study on two cores: plain V-JEPA, the three additions, and pixels, against the strength of nuisance.

  surgmotion study run --config=study/laptop --workdir=runs/study --workers=2
  surgmotion study run --config=study/laptop:small --workdir=runs/small

Repeat the command to go on; `--hours=H` ends after about so long. `small` shows in minutes that all parts work.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults, entry
from surgmotion_jax.runs.study.config import StudyConfig, StudyTask

FEW_FRAMES = ("data.frames=4", "data.train_windows=2400", "sweep.learning_rates=(1e-3,)", "sweep.weight_decays=(0.05,)")
TUNED = ("finetune.layer_decay=1.0",)


def get_config(arg: str | None = None) -> ConfigDict:
    """The study, or `small`. Raises ValueError for another argument."""
    if arg not in (None, "small"):
        raise ValueError(f"study/laptop takes no argument, or small; found {arg!r}.")
    c = defaults(StudyConfig)
    c.arms = ("plain", "pixel", "all", "motion", "sfdr")
    c.more = ("affinity", "pixel_motion", "sigreg", "salt", "vjepa21")
    c.tasks.cholect50 = task("cholect50", ("mAP_I", "mAP_V", "mAP_T"), 24, 4.0, FEW_FRAMES, TUNED)
    if arg == "small":
        make_small(c)
    return c.lock()


def task(
    name: str,
    measures: tuple[str, ...],
    cases: int,
    minutes: float,
    changed: tuple[str, ...],
    tuned: tuple[str, ...],
) -> ConfigDict:
    """A data set under its small evaluation."""
    return entry(
        StudyTask,
        config=f"evaluate/{name}:small",
        measures=measures,
        cases=cases,
        minutes=minutes,
        set=changed,
        tuned=tuned,
    )


def make_small(c: ConfigDict) -> None:
    """Changes the study to one of minutes, which decides nothing."""
    c.arms, c.more, c.seeds, c.strengths, c.resamples = ("plain", "pixel"), (), (0, 1), (0.0, 2.0), 50
    c.pretrain = "ablate/study:small"
    c.videos.cases, c.videos.minutes = 4, 0.1
    for each in c.tasks.values():
        each.cases, each.minutes = 6, 0.2
        each.set = (*each.set, "data.frames=2", "data.train_windows=24", "sweep.epochs=1")
