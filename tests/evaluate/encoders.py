"""An encoder small enough to compile in a second."""

from __future__ import annotations

import jax

from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder
from surgmotion_jax.evaluate.encoder.weights import Origin
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import ModelConfig, PredictorSettings
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh

CONFIG = ModelConfig(
    depth=2,
    width=48,
    heads=3,
    mlp=96,
    patch=8,
    dtype="float32",
    remat="none",
    predictor=PredictorSettings(48, 2, 3, mlp=96),  # its arrays have the encoder's shapes: fewer digests to compile
)


def small_encoder(seed: int = 0) -> FrozenEncoder:
    """A fresh encoder on one device, its digest made of the seed."""
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    params = jax.jit(backbone_of(CONFIG).init)(jax.random.key(seed))
    return FrozenEncoder(CONFIG, params, Origin(f"small:{seed}", ("target",), 0, f"{seed:064x}"), layout)
