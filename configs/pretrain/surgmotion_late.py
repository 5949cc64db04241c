"""SurgMotion-L in the form of its authors' late history: never shown to be the published run, and so an arm to compare.

  surgmotion pretrain --config=configs/pretrain/surgmotion_late.py:stage1 --data=VIDEOS --workdir=runs/late-stage1
  surgmotion pretrain --config=configs/pretrain/surgmotion_late.py:stage2 --data=VIDEOS --workdir=runs/late-stage2 \
      --config.init.checkpoint=runs/late-stage1

Stage 1 is plain V-JEPA 2. Stage 2 weighs every masked token by 1 + 2 m, m its normal flow, and takes the plain mean;
relations between tokens are the smooth L1 of their cosines, and the spread of features is that of each clip. Both
stages draw one of V-JEPA 2's two sets of multi-block masks for a batch. A variant of theirs weighs the spread twice and
adds covariances:

  surgmotion pretrain --config=configs/pretrain/surgmotion_late.py:stage2 --data=VIDEOS --workdir=runs/late-covariance \
      --config.init.checkpoint=runs/late-stage1 --config.loss.diversity.weight=2 --config.loss.covariance.weight=0.05

Sizes, data and schedule of stage 1 are those of `surgmotion_vitl.py`.
"""

from ml_collections import ConfigDict

from surgmotion_jax.config import load_config


def get_config(arg: str | None = None) -> ConfigDict:
    """One of the stages `stage1` and `stage2`. Raises ValueError for anything else."""
    if arg not in ("stage1", "stage2"):
        raise ValueError(f"the config needs a stage, :stage1 or :stage2 after its name; found {arg or ''!r}.")
    c = load_config(f"pretrain/surgmotion_vitl:{arg},multiblock")
    c.mask.draw = "one"
    c.mask.sets.short.target = 0.75  # the shares that the unions of 8 small and 2 large blocks hide
    c.mask.sets.long.target = 0.94
    c.loss.affinity.weight = 0.0
    c.optim.lr = 5.25e-4
    c.optim.warmup_from = 1e-4 / 5.25e-4
    if arg == "stage1":
        c.saliency.kind = "none"
        c.loss.motion.alpha = 0.0
        c.loss.diversity.weight = 0.0
    else:
        add_terms(c)
        c.steps = 6_000  # 20 epochs of 300 steps
    return c.lock()


def add_terms(c: ConfigDict) -> None:
    """What stage 2 adds to plain prediction."""
    c.saliency.kind = "normal_flow"
    c.loss.motion.alpha = 2.0
    c.loss.motion.reduce = "count"
    c.loss.motion.dense_norm = "none"  # the score lies in [0, 1]
    c.loss.relation.weight = 0.1
    c.loss.diversity.weight = 1.0
    c.loss.diversity.over = "clip"
    c.loss.diversity.unbiased = True
