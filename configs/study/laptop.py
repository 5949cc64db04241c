"""The study on two cores: plain V-JEPA, the three additions, and pixels, against the strength of nuisance.

  surgmotion study run --config=study/laptop --workdir=runs/study --workers=2
  surgmotion study run --config=study/laptop:small --workdir=runs/small

Repeat the command to go on; `--hours=H` ends after about so long. `small` shows in minutes that all parts work.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults, entry
from surgmotion_jax.runs.study.config import StudyConfig, StudyTask, StudyWorld

LINEAR = (
    "probe.head=linear",
    "data.train_windows=0",
    "sweep.learning_rates=(3e-2,3e-3)",
    "sweep.weight_decays=(0.01,)",
)
PATCHES = (  # a linear map of a patch's last tokens to one number for 4 x 4 of its pixels
    "probe.head=patch_linear",
    "probe.layers=(3,)",
    "probe.stride=4",
    "data.train_windows=0",
    "sweep.learning_rates=(3e-2,3e-3)",
    "sweep.weight_decays=(0.01,)",
)
TUNED = (  # the upper anchor learns from mirrored and moved windows, for long
    "sweep.learning_rates=(1e-3,)",
    "sweep.weight_decays=(0.05,)",
    "sweep.epochs=40",
    "finetune.layer_decay=1.0",
    "finetune.flips=True",
    "finetune.shift=0.06",
)
OWN = "evaluate/own_frames:small"


def get_config(arg: str | None = None) -> ConfigDict:
    """The study, or `small`. Raises ValueError for another argument."""
    if arg not in (None, "small"):
        raise ValueError(f"study/laptop takes no argument, or small; found {arg!r}.")
    c = defaults(StudyConfig)
    c.arms = ("plain", "pixel", "all", "motion", "sfdr")
    c.more = ("affinity", "pixel_motion", "sigreg", "salt", "vjepa21")
    c.worlds.pretrain = entry(StudyWorld, cases=40, minutes=1.0, size=96, fps=8.0)
    c.worlds.own_frames = entry(StudyWorld, cases=600, minutes=0.5)
    c.worlds.avos = entry(StudyWorld, cases=700, minutes=0.0834, fps=8.0)
    c.worlds.polyp_segmentation = entry(StudyWorld, cases=700, minutes=0.1334)
    c.worlds.c3vd = entry(StudyWorld, cases=80, minutes=0.5)
    single = (*LINEAR, "data.frames=1", "data.protocol=third_1")
    c.tasks.tools = task("own_frames", OWN, "mAP", single)
    c.tasks.phases = task("own_frames", OWN, "f1", single, table="phases.csv")
    c.tasks.verbs = task("avos", "evaluate/avos:small", "f1", (*LINEAR, "data.frames=8"))
    c.tasks.polyps = task("polyp_segmentation", "evaluate/polyp_segmentation:small", "dice", PATCHES)
    c.tasks.depth = task("c3vd", "evaluate/c3vd:small", "abs_rel", PATCHES)
    if arg == "small":
        make_small(c)
    return c.lock()


def task(world: str, config: str, measure: str, changed: tuple[str, ...], table: str = "") -> ConfigDict:
    """A world under an evaluation with a head that can do little by itself."""
    return entry(StudyTask, world=world, config=config, measures=(measure,), table=table, set=changed, tuned=TUNED)


def make_small(c: ConfigDict) -> None:
    """Changes the study to one of minutes, which decides nothing."""
    c.arms, c.more, c.seeds, c.strengths, c.resamples = ("plain", "pixel"), (), (0, 1), (0.0, 2.0), 50
    c.pretrain, c.shares = "ablate/study:small", (0.5,)
    del c.tasks.verbs, c.tasks.depth, c.worlds.avos, c.worlds.c3vd
    for name, each in c.worlds.items():
        each.cases, each.minutes = 4 if name == "pretrain" else 6, 0.1
    for each in c.tasks.values():
        each.set = (*each.set, "data.frames=2", "data.train_windows=24", "sweep.epochs=1")
        each.tuned = (*each.tuned, "sweep.epochs=1")
