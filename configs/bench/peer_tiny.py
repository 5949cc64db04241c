"""The step that is timed against PyTorch on a CPU: ViT-tiny, 16 x 96 x 96, four clips, float32, plain V-JEPA.

  python -m tests.pretrain.peer_bench --config=bench/peer_tiny --counts=104/136,48/240
  surgmotion bench --config=configs/bench/peer_tiny.py --config.optim.batch=8

The counts are those of V-JEPA's sampler at this size, which leaves tokens out that are neither context nor target.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import defaults
from surgmotion_jax.pretrain.config import PretrainConfig


def get_config(arg: str | None = None) -> ConfigDict:
    """The one variant. Raises ValueError for an argument: it takes none."""
    if arg is not None:
        raise ValueError(f"bench/peer_tiny takes no argument; found {arg!r}.")
    c = defaults(PretrainConfig)
    c.steps = 1000

    c.model.variant = "vit_tiny"
    c.model.dtype = "float32"
    c.model.remat = "none"
    c.model.predictor.width = 192
    c.model.predictor.depth = 6
    c.model.predictor.heads = 6

    c.data.frames = 16
    c.data.canvas = (112, 112)
    c.augment.crop = 96  # 8 x 6 x 6 = 288 tokens
    c.mask.kind = "multiblock"

    c.saliency.kind = "none"
    c.saliency.fov = "none"
    c.loss.motion.alpha = 0.0
    c.loss.affinity.weight = 0.0
    c.loss.diversity.weight = 0.0

    c.optim.batch = 4
    c.optim.lr = 1e-4
    c.optim.warmup_steps = 0
    c.heldout.batch = 4
    c.heldout.clips = 4
    return c.lock()
