"""What the arms of the study share: 2,000 steps on clips of 64 px from simulated operations.

  surgmotion ablate --config=ablate/study --data=VIDEOS --workdir=runs/recipe --rows=plain,pixel --match=flops

docs/study.md has the runs, on videos of another seed than the study's, that chose steps, batch and rate.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """The base of all arms; `small`: a few steps; `gpu`: a larger encoder. Raises ValueError for another argument."""
    if arg not in (None, "small", "gpu"):
        raise ValueError(f"ablate/study takes no argument, small or gpu; found {arg!r}.")
    c = load_config("ablate/arms").copy_and_resolve_references().unlock()
    c.steps = 2000
    c.model.variant, c.model.patch = "vit_pico", 8
    c.model.predictor.depth = c.objective.decoder.depth = 2
    c.data.frames = 8
    c.data.fps = 4.0
    c.data.canvas = (96, 96)
    c.data.memory_gb = 1.0  # all videos of the study, decoded once
    c.augment.crop = 64  # 4 x 8 x 8 = 256 tokens
    c.augment.scale = (0.35, 1.0)
    c.optim.batch = 16
    c.optim.warmup_steps = 100
    c.optim.ema, c.optim.final_ema = 0.99, 1.0
    c.heldout.clips, c.heldout.batch = 32, 16
    c.heldout.every = c.checkpoint.every = 500
    c.alarms.after = 500
    if arg == "small":
        c.steps = c.heldout.every = c.checkpoint.every = 6
        c.optim.warmup_steps, c.optim.batch, c.heldout.clips, c.heldout.batch = 2, 8, 8, 8
    if arg == "gpu":
        c.data.memory_gb = 6.0
        c.model.variant, c.model.dtype, c.model.patch = "vit_small", "bfloat16", 16
        c.model.predictor.width = c.objective.decoder.width = 192
        c.model.predictor.depth = c.objective.decoder.depth = 6
        c.data.canvas, c.augment.crop = (160, 160), 112
        c.steps, c.optim.batch, c.optim.warmup_steps = 20_000, 64, 1000
    return c.lock()
