"""Pretraining configuration: one frozen dataclass per section, one comment per field.

Three sections follow from tables, where their classes lie beside the functions that read them: `loss`
(`surgmotion_jax/pretrain/losses/table.py`), `mask` and `saliency` (`masks.py` and `saliencies.py` in
`surgmotion_jax/pretrain/sample/`).

The ConfigDict that users override is built from these classes and turned back into them at the door.
"""

from surgmotion_jax.pretrain.config.augment import AugmentConfig
from surgmotion_jax.pretrain.config.images import ImagesConfig
from surgmotion_jax.pretrain.config.monitor import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.config.objective import ObjectiveConfig
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.config.pretrain import RUN_FIELDS, RUN_SECTIONS, PretrainConfig, as_dict
from surgmotion_jax.pretrain.config.run import CheckpointConfig, HeldoutConfig, InitConfig, RunConfig

__all__ = [
    "RUN_FIELDS",
    "RUN_SECTIONS",
    "AlarmConfig",
    "AugmentConfig",
    "CheckpointConfig",
    "HeldoutConfig",
    "ImagesConfig",
    "InitConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PretrainConfig",
    "ProbeConfig",
    "RunConfig",
    "as_dict",
]
