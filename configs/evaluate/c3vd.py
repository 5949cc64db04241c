"""C3VD: depth in a colon phantom.

  surgmotion evaluate --config=configs/evaluate/c3vd.py --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/c3vd:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig, dense, variant


def get_config(arg: str | None = None) -> ConfigDict:
    """The benchmark at full size, or `small` for two cores. Raises ValueError for another argument."""
    return variant(dense(defaults(EvaluateConfig), "c3vd"), arg).lock()
