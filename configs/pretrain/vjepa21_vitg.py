"""V-JEPA 2.1 pretraining of a ViT-g (arXiv 2603.14482): the recipe of `vjepa21_vitl.py` with 1.01 B parameters.

  surgmotion pretrain --config=configs/pretrain/vjepa21_vitg.py --data=VIDEOS --workdir=runs/vjepa21-g
  surgmotion pretrain --config=configs/pretrain/vjepa21_vitg.py --data=VIDEOS --workdir=runs/vjepa21-g-further \
      --config.init.checkpoint=weights/vjepa21_g --config.loss.context.rise=0,0
  surgmotion pretrain --config=configs/pretrain/vjepa21_vitg.py:cooldown --data=VIDEOS --workdir=runs/cooldown-g \
      --config.init.checkpoint=runs/vjepa21-g

The released ViT-g was not distilled: its predictor goes on too.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Pretraining, or with `cooldown` what follows it. Raises ValueError for any other argument."""
    c = load_config(f"pretrain/vjepa21_vitl{':' + arg if arg else ''}")
    c.model.variant = "vit_giant_xformers"  # the released weights' 22 heads of 64
    return c
