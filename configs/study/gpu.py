"""The study of study/laptop on one GPU: ViT-small at 112 px, more operations, more steps.

  surgmotion study run --config=study/gpu --workdir=runs/study-gpu --workers=16

Nobody has run it: its sizes are those of the laptop's, scaled.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """The larger setting. Raises ValueError for an argument: it takes none."""
    if arg is not None:
        raise ValueError(f"study/gpu takes no argument; found {arg!r}.")
    c = load_config("study/laptop").copy_and_resolve_references().unlock()
    c.pretrain = "ablate/study:gpu"
    c.seeds = (0, 1, 2)
    c.encoder = "random:vit_small/16"
    for name, world in c.worlds.items():
        world.size = 160 if name == "pretrain" else 112
    c.worlds.pretrain.cases = 1000
    for task in c.tasks.values():
        task.set = (*task.set, "data.size=112", "probe.layers=(11,)")  # the last block
    return c.lock()
