"""V-JEPA 2 pretraining of a ViT-L (arXiv 2506.09985): plain latent prediction, multi-block masks, no motion weights.

  surgmotion pretrain --config=configs/pretrain/vjepa2_vitl.py --data=VIDEOS --workdir=runs/vjepa2
  surgmotion pretrain --config=configs/pretrain/vjepa2_vitl.py --data=VIDEOS --workdir=runs/vjepa2 \
      --config.optim.accumulate=8

The argument `cooldown` continues such a run, moments included, on 64 frames while the learning rate falls:

  surgmotion pretrain --config=configs/pretrain/vjepa2_vitl.py:cooldown --data=VIDEOS --workdir=runs/vjepa2-cooldown \
      --config.init.checkpoint=runs/vjepa2

It ends at 1e-6, as the paper means it to. The public code stretches the line over 15,000 steps and stops after 12,000,
at 1.06e-4; `--config.optim.decay_steps=15000` does the same. V-JEPA 2 weighs its datasets by hand; here they are drawn
by specialty (`surgmotion_vitl.py` shows several sources), so with one source each clip is equally likely.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from surgmotion_jax.config import defaults
from surgmotion_jax.pretrain.config import PretrainConfig


def get_config(arg: str | None = None) -> ConfigDict:
    """Pretraining, or with `cooldown` what follows it. Raises ValueError for any other argument."""
    if arg not in (None, "cooldown"):
        raise ValueError(f"the config takes no argument or :cooldown; found {arg!r}.")
    c = defaults(PretrainConfig)
    c.steps = 240_000
    c.model.variant = "vit_large"
    c.model.remat = "attention"  # a TPU's attention kernels do not run again backward, for little memory
    c.data.frames = 16
    c.data.fps = 4.0
    c.data.canvas = (288, 384)  # 4:3, so that nearly every crop of aspect 0.75 to 1.35 fits
    c.data.workers = 8  # decoding, not arithmetic, is what a host runs out of
    c.augment.crop = 256
    c.parallel.mesh = "auto"  # 6.4 GB of state and gradients: on several accelerators each updates a part
    c.mask.kind = "multiblock"  # 8 blocks of 15 % and 2 of 70 %
    c.saliency.kind = "none"
    c.saliency.fov = "none"  # natural video fills its frame
    c.loss.motion.alpha = 0.0  # every masked token weighs the same
    c.loss.affinity.weight = 0.0
    c.loss.diversity.weight = 0.0
    c.optim.batch = 3072
    c.optim.lr = 5.25e-4
    c.optim.warmup_from = 1e-4 / 5.25e-4  # warm-up starts at 1e-4
    c.optim.warmup_steps = 12_000
    c.optim.ema = 0.99925
    c.optim.final_ema = 0.99925
    c.heldout.batch = 256  # divides over as many devices as the training batch
    c.checkpoint.keep_every = 20_000
    if arg == "cooldown":
        cool_down(c)
    return c.lock()


def cool_down(c: ConfigDict) -> None:
    """Longer clips, and a learning rate that falls on a line."""
    c.steps = 12_000
    c.data.frames = 64
    c.optim.schedule = "linear"
    c.optim.final_lr = 1e-6
    c.optim.warmup_steps = 0
    c.optim.decay_steps = c.get_oneway_ref("steps")  # reaches final_lr at the last step
    c.init.checkpoint = placeholder(str)  # must be given: the workdir of the pretraining run
    c.init.optimizer = True
