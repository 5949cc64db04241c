"""The ablation at the size of a laptop: six runs of the tiny encoder, a few minutes together on two cores.

  surgmotion ablate --config=configs/ablate/tiny.py --data=VIDEOS --workdir=runs/ablation
  surgmotion ablate --config=configs/ablate/tiny.py --data=VIDEOS --workdir=runs/ablation-paper \
      --config.loss.diversity.weight=0.3

It shows that the rows run and what is read off them; at this size, with one seed, it decides nothing. Everything but
length, size of the clips and decoder is as in configs/pretrain/tiny.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """The tiny ablation. Raises ValueError for an argument: it takes none."""
    if arg is not None:
        raise ValueError(f"ablate/tiny takes no argument; found {arg!r}.")
    c = load_config("pretrain/tiny").copy_and_resolve_references().unlock()
    c.steps = 100
    c.data.canvas = (128, 128)
    c.augment.crop = 64  # 8 x 4 x 4 = 128 tokens
    c.optim.warmup_steps = 20
    c.optim.ema = 0.99  # half-life of 70 steps: the targets must follow within the run
    c.optim.final_ema = 0.99
    c.objective.decoder.width = 96  # the tiny predictor's blocks, so that the two differ in their head alone
    c.objective.decoder.depth = 3
    c.objective.decoder.heads = 3
    c.heldout.every = 50
    c.checkpoint.every = 50
    c.alarms.after = 50
    return c.lock()
