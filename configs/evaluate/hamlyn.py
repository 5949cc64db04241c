"""Hamlyn: depth by stereo in laparoscopy.

  surgmotion evaluate --config=configs/evaluate/hamlyn.py --checkpoint=PATH --root=DIR --workdir=W
  surgmotion evaluate --config=evaluate/hamlyn:small --checkpoint=random:vit_nano --root=DIR --workdir=W

The defaults of every field, and what each does, are in surgmotion_jax/evaluate/config.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.evaluate.config import EvaluateConfig, variant


def get_config(arg: str | None = None) -> ConfigDict:
    """The benchmark at full size, or `small` for two cores. Raises ValueError for another argument."""
    c = defaults(EvaluateConfig)
    c.data.benchmark = "hamlyn"
    c.data.frames = 1  # a still image
    c.probe.head = "dense"
    c.sweep.epochs = 20
    c.sweep.learning_rates, c.sweep.weight_decays = (1e-3, 3e-4), (0.01, 0.1)
    c.sweep.batch = 16
    return variant(c, arg).lock()
