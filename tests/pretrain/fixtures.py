"""Small configs for tests."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from surgmotion_jax.config import build, defaults, entry
from surgmotion_jax.data.config import SourceConfig
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.state import create_state
from surgmotion_jax.pretrain.step import compile_train_step


def small_flags(**overrides: Any) -> ConfigDict:
    """A two-block encoder with 6 heads on 8 frames of 48 pixels: 4 x 3 x 3 tokens. Overrides by dotted name."""
    c = defaults(PretrainConfig)
    c.data.sources = {"none": entry(SourceConfig, path="none")}
    c.steps = 10
    c.model.update({"variant": "vit_small", "depth": 2, "dtype": "float32", "remat": "none"})
    c.model.predictor.update({"width": 48, "depth": 1, "heads": 6, "mask_tokens": 2})
    c.data.update({"frames": 8, "canvas": (64, 64)})
    c.augment.crop = 48
    c.mask.ratios = (0.67,)
    c.optim.update({"batch": 8, "lr": 1e-3, "warmup_steps": 2})
    c.heldout.update({"batch": 8, "clips": 8})
    c.update_from_flattened_dict(overrides)
    return c


def small_config(**overrides: Any) -> PretrainConfig:
    return build(PretrainConfig, small_flags(**overrides))


def random_batch(config: PretrainConfig, size: int, seed: int = 0) -> RawBatch:
    """Smooth random clips, so that neighbouring pixels and frames agree as they do in video."""
    rng = np.random.default_rng(seed)
    height, width = config.data.canvas
    coarse = rng.uniform(40, 255, (size, config.data.frames // 4, height // 8, width // 8, 3))
    video = coarse.repeat(4, 1).repeat(8, 2).repeat(8, 3) + rng.normal(
        0, 5, (size, config.data.frames, height, width, 3)
    )
    valid = np.ones((size, config.data.frames), bool)
    return RawBatch(np.clip(video, 0, 255).astype(np.uint8), valid, np.arange(size, dtype=np.uint32))  # type: ignore[arg-type]


NANO = {"model.width": 48, "model.heads": 6, "model.mlp": 96, "model.depth": 1}


def train(config: PretrainConfig, steps: int = 2) -> list[dict[str, float]]:
    """The metrics of some steps on one device, all on the same clips."""
    layout = MeshLayout(make_mesh(ParallelConfig(1, 1, 1), jax.devices()[:1]))
    state, batch = create_state(config, layout), random_batch(config, config.optim.batch)
    step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    logged = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        logged.append({name: float(value) for name, value in metrics.items()})
    return logged
