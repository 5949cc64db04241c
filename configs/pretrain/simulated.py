"""The study on simulated operations (launch/families.sh): the demo's encoder on 64 px clips of 4 s.

  surgmotion simulate --layout=pretrain --cases=40 --minutes=0.75 --fps=8 --size=96 --out=sim/videos
  surgmotion pretrain --config=configs/pretrain/simulated.py --data=sim/videos --workdir=runs/surgmotion
  surgmotion pretrain --config=configs/pretrain/simulated.py:vjepa --data=sim/videos --workdir=runs/vjepa-1 \
      --config.seed=1

Everything but steps, clips and held-out draws is as in configs/pretrain/tiny.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """The whole method, or `vjepa`: the same without its three additions. Raises ValueError for another argument."""
    if arg not in (None, "vjepa"):
        raise ValueError(f"pretrain/simulated takes no argument, or vjepa; found {arg!r}.")
    c = load_config("pretrain/tiny").copy_and_resolve_references().unlock()
    c.steps = 1000
    c.data.fps = 4.0
    c.data.canvas = (96, 96)
    c.augment.crop = 64  # 8 x 4 x 4 = 128 tokens, as the small evaluations have them
    c.augment.scale = (0.35, 1.0)
    c.heldout.clips = 40  # a clip of each video
    c.heldout.batch = 8
    c.heldout.every = 250
    c.checkpoint.every = 250
    if arg == "vjepa":
        c.loss.motion.alpha = 0.0
        c.loss.affinity.weight = 0.0
        c.loss.diversity.weight = 0.0
    return c.lock()
