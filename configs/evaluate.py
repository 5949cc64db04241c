"""The evaluation of each benchmark: one table of what differs from the defaults.

  surgmotion evaluate --config=evaluate/cholec80 --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/cholec80:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.checks import one_of
from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig

LAST_MINUTE = {"data.frames": 64}  # at one frame a second, the labelled one included
WHOLE_CLIP = {"data.frames": 64, "data.fps": 0.0, "sweep.epochs": 40}  # spread over the clip; clips are few
TRIPLETS = {"data.frames": 16, "sweep.epochs": 10}
OWN_FRAMES = {"data.frames": 16, "data.protocol": "loco", "sweep.epochs": 10}
STILL_IMAGE = {  # with a label for every pixel: masks or depth
    "data.frames": 1,
    "probe.head": "dense",
    "sweep.epochs": 20,
    "sweep.batch": 16,
    "sweep.learning_rates": (1e-3, 3e-4),
    "sweep.weight_decays": (0.01, 0.1),
}

CONFIGS = {
    "cholec80": LAST_MINUTE,  # seven phases of cholecystectomy
    "autolaparo": LAST_MINUTE,  # seven phases of hysterectomy
    "m2cai16": LAST_MINUTE,  # eight phases of cholecystectomy
    "egosurgery": LAST_MINUTE,  # nine phases of open surgery, seen by the surgeon
    "pitvis": LAST_MINUTE,  # twelve steps of pituitary surgery
    "ophnet2024": LAST_MINUTE,  # 96 phases of eye surgery
    "pmlr50": LAST_MINUTE,  # five phases of liver resection
    "atlas_neurosurgical": LAST_MINUTE,  # phases of neurosurgery
    "surgicalactions160": WHOLE_CLIP,  # sixteen actions of laparoscopy
    "avos": WHOLE_CLIP,  # actions of open surgery
    "polypdiag": WHOLE_CLIP,  # clips with and without a polyp
    "cholect50": TRIPLETS,  # 100 action triplets of cholecystectomy
    "jigsaws": WHOLE_CLIP,  # skill of bench-top trials on the global rating scale
    "polyp_segmentation": STILL_IMAGE,  # masks under the PraNet protocol
    "c3vd": STILL_IMAGE,  # depth in a colon phantom
    "scared": STILL_IMAGE,  # depth by structured light in porcine abdomen
    "hamlyn": STILL_IMAGE,  # depth by stereo in laparoscopy
    "own_frames": OWN_FRAMES,  # a folder of frames with a CSV of labels, each case left out in turn
}


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of `arg`: a benchmark of the table at full size, or, with `:small` after its name, for two cores."""
    benchmark, _, size = (arg or "").partition(":")
    one_of("the benchmark of an evaluation config", benchmark, tuple(CONFIGS))
    one_of("the argument of an evaluation config", size, ("", "small"))
    c = defaults(EvaluateConfig)
    c.update_from_flattened_dict({"data.benchmark": benchmark, **CONFIGS[benchmark]})
    if size == "small":
        make_small(c)
    return c.lock()


def make_small(c: ConfigDict) -> None:
    """Changes a config to one for two cores, and an encoder to match."""
    dense = c.probe.head == "dense"
    c.data.frames = min(c.data.frames, 16)
    c.data.size, c.data.train_windows = 64, 600
    c.probe.depth, c.probe.heads = 1, 3
    c.probe.width = 8 if dense else 16
    c.probe.stride = 2  # the last doubling costs more than all before it
    c.probe.remat = c.finetune.remat = "none"
    c.sweep.learning_rates, c.sweep.weight_decays = (3e-3, 1e-3), (0.01, 0.4)
    c.sweep.batch, c.sweep.epochs = 16, 20
    # Said rather than measured, so that a run can be repeated to the last digit. Over heads, convolutions become
    # grouped ones: three times as slow on CPUs.
    c.sweep.strategy = "loop" if dense else "vmap"
    c.cache.batch = 16
