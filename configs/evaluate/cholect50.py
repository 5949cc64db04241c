"""CholecT50: 100 action triplets of cholecystectomy.

  surgmotion evaluate --config=configs/evaluate/cholect50.py --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/cholect50:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig, variant


def get_config(arg: str | None = None) -> ConfigDict:
    """The benchmark at full size, or `small` for two cores. Raises ValueError for another argument."""
    c = defaults(EvaluateConfig)
    c.data.benchmark = "cholect50"
    c.data.frames = 16
    c.sweep.epochs = 10
    return variant(c, arg).lock()
