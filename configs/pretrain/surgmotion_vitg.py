"""SurgMotion-G (arXiv 2602.05638): the recipe of `surgmotion_vitl.py` with a ViT-g of 1.01 B parameters.

  surgmotion pretrain --config=configs/pretrain/surgmotion_vitg.py:stage1 --data=VIDEOS --workdir=runs/vitg-stage1
  surgmotion pretrain --config=configs/pretrain/surgmotion_vitg.py:stage2 --data=VIDEOS --workdir=runs/vitg-stage2 \
      --config.init.checkpoint=runs/vitg-stage1

What `surgmotion_vitl.py` says of starting weights, datasets and learning rate holds here too.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """One of the stages `stage1` and `stage2`. Raises ValueError for anything else."""
    c = load_config(f"pretrain/surgmotion_vitl:{arg or ''}")
    c.model.variant = "vit_giant_xformers"  # the released weights' 22 heads of 64
    return c
