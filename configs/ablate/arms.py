"""All arms at the size of a laptop: what is predicted, where targets come from, and what keeps features apart.

  surgmotion ablate --config=configs/ablate/arms.py --data=VIDEOS --workdir=runs/arms \
      --rows=plain,all,pixel,salt,sigreg,lejepa,vicreg,vjepa21,late --grid=seed=0,1 --match=flops

Two seeds of each, and for each the operations of plain V-JEPA. The row `pixel` is stage one of the row `salt`, whose
teacher it becomes; its operations are not counted for `salt`. With `--config.probe.benchmark=cholec80
--config.probe.root=DIR` every arm is probed on labelled windows, and the table has the accuracies. A sweep of the
momentum:

  surgmotion ablate --config=configs/ablate/arms.py --data=VIDEOS --workdir=runs/momentum --rows=plain \
      --grid=optim.ema=.99,.996,.999

It decides nothing at this size. Everything but the weight of covariances is as in configs/ablate/tiny.py.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """The base of all arms. Raises ValueError for an argument: it takes none."""
    if arg is not None:
        raise ValueError(f"ablate/arms takes no argument; found {arg!r}.")
    c = load_config("ablate/tiny").copy_and_resolve_references().unlock()
    c.loss.covariance.weight = 0.04  # VICReg weighs it a 25th of the spread's
    return c.lock()
