"""The demo: a small encoder on a few short videos, minutes on a laptop.

  surgmotion pretrain --config=configs/pretrain/tiny.py --data=VIDEOS --workdir=runs/tiny
  surgmotion pretrain --config=configs/pretrain/tiny.py --data=VIDEOS --workdir=runs/vjepa \
      --config.loss.motion.alpha=0 --config.loss.affinity.weight=0 --config.loss.diversity.weight=0

The defaults of every field, and what each does, are in surgmotion_jax/pretrain/config/.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.pretrain.config import PretrainConfig


def get_config(arg: str | None = None) -> ConfigDict:
    """The tiny variant. Raises ValueError for an argument: it takes none."""
    if arg is not None:
        raise ValueError(f"pretrain/tiny takes no argument; found {arg!r}.")
    c = defaults(PretrainConfig)
    c.steps = 600

    c.model.variant = "vit_nano"  # 4 blocks of width 192
    c.model.dtype = "float32"  # CPUs gain nothing from bfloat16
    c.model.remat = "none"  # memory is no concern at this size
    c.model.predictor.width = 96
    c.model.predictor.depth = 3
    c.model.predictor.heads = 3

    c.data.frames = 16
    c.data.fps = 12.5  # every second frame of 25 fps video: clips of 1.3 s
    c.data.canvas = (160, 160)
    c.data.holdout = 0.25  # the last quarter of every video
    c.data.memory_gb = 1.0  # short videos are decoded once

    c.augment.crop = 80  # 8 x 5 x 5 = 200 tokens
    c.augment.scale = (0.2, 0.35)  # around a quarter of the canvas: native resolution, as held-out clips have it
    c.mask.ratios = (0.75,)  # one program to compile

    # The paper's 0.3 pulls predictions apart faster than half a minute of video can justify on held-out clips.
    c.loss.diversity.weight = 0.02

    c.optim.batch = 8
    c.optim.lr = 1e-3
    c.optim.warmup_steps = 60
    c.optim.schedule = "cosine"
    c.optim.ema = 0.998  # half-life of 350 steps; 0.99925 is for runs a hundred times as long
    c.optim.final_ema = 0.998

    c.heldout.every = 100
    c.heldout.clips = 24
    c.heldout.batch = 12
    c.checkpoint.every = 100
    return c.lock()
