"""AVOS: actions of open surgery.

  surgmotion evaluate --config=configs/evaluate/avos.py --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/avos:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig, variant


def get_config(arg: str | None = None) -> ConfigDict:
    """The benchmark at full size, or `small` for two cores. Raises ValueError for another argument."""
    c = defaults(EvaluateConfig)
    c.data.benchmark = "avos"
    c.data.frames, c.data.fps = 64, 0.0  # spread over the clip
    c.sweep.epochs = 40  # clips are few
    return variant(c, arg).lock()
