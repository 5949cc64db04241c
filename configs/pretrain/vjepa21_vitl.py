"""V-JEPA 2.1 pretraining of a ViT-L (arXiv 2603.14482): four levels of features, of masked and of visible tokens.

  surgmotion pretrain --config=configs/pretrain/vjepa21_vitl.py --data=VIDEOS --workdir=runs/vjepa21
  surgmotion pretrain --config=configs/pretrain/vjepa21_vitl.py --data=VIDEOS --workdir=runs/vjepa21-further \
      --config.init.checkpoint=weights/vjepa21 --config.loss.context.rise=0,0

Positions are scaled to the grid that weights are released for, so converted weights of 384 px go on at 256 px. The
released ViT-L was distilled: its predictor predicts another teacher's features and cannot be used here. Take the rest,
with `--config.init.parts="('encoder','target')"`.

The argument `cooldown` continues a run, moments included, on 64 frames while the learning rate falls:

  surgmotion pretrain --config=configs/pretrain/vjepa21_vitl.py:cooldown --data=VIDEOS --workdir=runs/vjepa21-cooldown \
      --config.init.checkpoint=runs/vjepa21

Beside its clips a step has images, which make half of the gradient: single frames of the videos, unless
`--config.images.path=DIR` names a folder of images, and none with `--config.images.batch=0`.

`loss.context.rise` counts the steps of the run that it stands in. The public code has the same two numbers fixed, and a
run of 30,000 steps for which somebody shortened them became unstable: leave them as they are, or give 0,0 to a run
that starts from weights which were trained with this loss. What `vjepa2_vitl.py` says of datasets and of the end of the
learning rate holds here too.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """Pretraining, or with `cooldown` what follows it. Raises ValueError for any other argument."""
    if arg not in (None, "cooldown"):
        raise ValueError(f"the config takes no argument or :cooldown; found {arg!r}.")
    c = load_config(f"pretrain/vjepa2_vitl{':cooldown' if arg else ''}")
    use_vjepa21(c)
    c.optim.lr = 6e-4
    c.optim.warmup_from = 1e-4 / 6e-4  # warm-up starts at 1e-4
    if arg == "cooldown":
        c.loss.context.rise = (0, 0)  # in full from the first step
        c.loss.context.by_distance = False
    else:
        c.steps = 300_000  # 1000 epochs of 300 steps
    return c


def use_vjepa21(c: ConfigDict) -> None:
    """Encoder, predictor and context loss of V-JEPA 2.1 in a config of V-JEPA 2."""
    c.model.positions = "rope"
    c.model.v21.levels = 4
    c.model.v21.rope_grid = 16  # 256 px in patches of 16
    c.model.v21.modality = True
    c.model.v21.context_projection = True
    c.model.predictor.depth = 24
    c.model.predictor.mask_tokens = 8  # as released
    c.loss.context.weight = 0.5
    c.loss.context.rise = (15_000, 30_000)
    c.images.batch = 4608  # 72 on each of 64 GPUs, beside 48 clips on each of 64 others
    c.images.canvas = (320, 320)
