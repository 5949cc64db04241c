"""Pretraining configuration: one frozen dataclass per section, one comment per field.

The ConfigDict that users override is built from these classes and turned back into them at the door.
"""

from surgmotion_jax.pretrain.config.augment import AugmentConfig
from surgmotion_jax.pretrain.config.loss import AffinityLossConfig, DiversityLossConfig, LossConfig, MotionLossConfig
from surgmotion_jax.pretrain.config.masks import BlockSet, MaskConfig, SaliencyConfig
from surgmotion_jax.pretrain.config.monitor import AlarmConfig, ProbeConfig
from surgmotion_jax.pretrain.config.objective import ObjectiveConfig
from surgmotion_jax.pretrain.config.optim import OptimConfig
from surgmotion_jax.pretrain.config.pretrain import RUN_FIELDS, RUN_SECTIONS, PretrainConfig, as_dict
from surgmotion_jax.pretrain.config.run import CheckpointConfig, HeldoutConfig, InitConfig, RunConfig

__all__ = [
    "RUN_FIELDS",
    "RUN_SECTIONS",
    "AffinityLossConfig",
    "AlarmConfig",
    "AugmentConfig",
    "BlockSet",
    "CheckpointConfig",
    "DiversityLossConfig",
    "HeldoutConfig",
    "InitConfig",
    "LossConfig",
    "MaskConfig",
    "MotionLossConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PretrainConfig",
    "ProbeConfig",
    "RunConfig",
    "SaliencyConfig",
    "as_dict",
]
