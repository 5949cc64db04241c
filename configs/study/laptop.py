"""The study on two cores: plain V-JEPA, the three additions, and pixels, against the strength of nuisance.

  surgmotion study run --config=study/laptop --workdir=runs/study --workers=2
  taskset -c 0 surgmotion study run --config=study/laptop --workdir=runs/study --cells='*-0*'
  taskset -c 1 surgmotion study run --config=study/laptop --workdir=runs/study --cells='*-1'
  surgmotion study run --config=study/laptop:small --workdir=runs/small

Repeat the command to go on; `--hours=H` ends after about so long. The second and third are faster, side by side: an
encoder this small makes little use of a second core, so each process has one, and a seed of its own. `small` shows in
minutes that all parts work.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults, entry
from surgmotion_jax.runs.study.config import StudyConfig, StudyTask, StudyWorld

TRAINED = (
    "data.train_windows=0",
    "sweep.batch=32",
    "sweep.learning_rates=(3e-2,3e-3)",
    "sweep.weight_decays=(0.01,)",
    "report.resamples=200",
)
# A linear map of a patch's last tokens to one number for 4 x 4 of its pixels.
PATCHES = ("probe.head=patch_linear", "probe.layers=(3,)", "probe.stride=4", *TRAINED)
TUNED = (  # the upper anchor learns from mirrored and moved windows, for long
    "sweep.learning_rates=(1e-3,)",
    "sweep.weight_decays=(0.05,)",
    "finetune.layer_decay=1.0",
    "finetune.flips=True",
    "finetune.shift=0.06",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The study, or `small`. Raises ValueError for another argument."""
    if arg not in (None, "small"):
        raise ValueError(f"study/laptop takes no argument, or small; found {arg!r}.")
    c = defaults(StudyConfig)
    c.seeds = (0, 1)
    c.arms = ("plain", "pixel", "all", "motion", "sfdr")
    c.more = ("affinity", "pixel_motion", "sigreg", "salt", "vjepa21")
    c.worlds.pretrain = entry(StudyWorld, cases=240, minutes=0.2, size=96, fps=4.0)
    c.worlds.polyp_segmentation = entry(StudyWorld, cases=700, minutes=0.1334)
    c.worlds.hamlyn = entry(StudyWorld, cases=400, minutes=0.1334, zoom=1.0)
    c.worlds.c3vd = entry(StudyWorld, cases=128, minutes=0.25, zoom=1.0)
    c.tasks.polyps = task("polyp_segmentation", "dice", PATCHES, epochs=30)
    c.tasks.depth = task("hamlyn", "abs_rel", PATCHES, epochs=20)
    c.tasks.colon = task("c3vd", "abs_rel", PATCHES, epochs=40)
    c.tasks.polyps.operation = r".*/\d+"  # of Kvasir/012_00003, the third second of operation 12
    if arg == "small":
        make_small(c)
    return c.lock()


def task(benchmark: str, measure: str, head: tuple[str, ...], epochs: int) -> ConfigDict:
    """A benchmark under a head that can do little by itself, and the epochs of training end to end."""
    config, tuned = f"evaluate/{benchmark}:small", (*TUNED, f"sweep.epochs={epochs}")
    return entry(StudyTask, world=benchmark, config=config, measures=(measure,), set=head, tuned=tuned)


def make_small(c: ConfigDict) -> None:
    """Changes the study to one of minutes, which decides nothing."""
    c.arms, c.more, c.seeds, c.strengths, c.resamples = ("plain", "pixel"), (), (0, 1), (0.0, 2.0), 50
    c.pretrain, c.shares = "ablate/study:small", (0.5,)
    del c.tasks.colon, c.worlds.c3vd
    for name, each in c.worlds.items():
        each.cases, each.minutes = 4 if name == "pretrain" else 6, 0.1
    for each in c.tasks.values():
        each.set = (*each.set, "data.train_windows=24", "sweep.epochs=1")
        each.tuned = (*each.tuned, "sweep.epochs=1")
