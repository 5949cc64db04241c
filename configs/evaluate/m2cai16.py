"""M2CAI16-workflow: eight phases of cholecystectomy.

  surgmotion evaluate --config=configs/evaluate/m2cai16.py --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/m2cai16:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig, variant


def get_config(arg: str | None = None) -> ConfigDict:
    """The benchmark at full size, or `small` for two cores. Raises ValueError for another argument."""
    c = defaults(EvaluateConfig)
    c.data.benchmark = "m2cai16"
    c.data.frames = 64  # the last minute, the labelled second included
    return variant(c, arg).lock()
