"""SurgMotion-L (arXiv 2602.05638): continual pretraining of a ViT-L on surgical video at 1 fps, in two stages.

  surgmotion pretrain --config=configs/pretrain/surgmotion_vitl.py:stage1 --data=VIDEOS --workdir=runs/vitl-stage1
  surgmotion pretrain --config=configs/pretrain/surgmotion_vitl.py:stage2 --data=VIDEOS --workdir=runs/vitl-stage2 \
      --config.init.checkpoint=runs/vitl-stage1

Masks are tubes of 75 to 95 %, as the paper has them (`:stage1` means `:stage1,tube`). The authors' code hides such
shares by V-JEPA 2's pair of multi-block masks, which is the likelier meaning: `:multiblock`, or `:stage2,multiblock`.
The default stays with the words of the paper until an ablation decides.

The paper's loss read literally, with only three tubes of a clip predicted, is one override away:

  surgmotion pretrain --config=configs/pretrain/surgmotion_vitl.py:stage1 --data=VIDEOS --workdir=runs/vitl-topk \
      --config.loss.motion.scope=topk

Stage 1 starts from `--config.init.checkpoint=WORKDIR` (the paper: from V-JEPA 2's weights), or, if that is left out,
from random weights. Stage 2 must be given stage 1's workdir; `--config.init.optimizer=True` takes its moments too.

The arguments `vjepa21` and `vjepa21_stage2` are the two stages with the model and the context loss of V-JEPA 2.1
(arXiv 2603.14482), for weights of that release. What `vjepa21_vitl.py` says of distilled weights holds here too:

  surgmotion pretrain --config=configs/pretrain/surgmotion_vitl.py:vjepa21 --data=VIDEOS --workdir=runs/vitl-vjepa21 \
      --config.init.checkpoint=weights/vjepa21_l

`--data` makes one dataset. Several, which share the draws equally by specialty, are named in a copy of this file:

    c.data.sources["cholec80"] = entry(SourceConfig, path="/videos/cholec80", specialty="gallbladder")
    c.data.sources["m2cai16"] = entry(SourceConfig, path="/videos/m2cai16/*.mp4", specialty="gallbladder")
    c.data.sources["pitvis"] = entry(SourceConfig, path="/videos/pitvis.csv", specialty="pituitary")

with `entry` from `surgmotion_jax.config` and `SourceConfig` from `surgmotion_jax.data`.

The paper gives neither learning rate nor warm-up. Here they are V-JEPA 2's, the rate scaled by the square root of the
batch: 1.5e-4 in stage 1, 7.6e-5 at the start of stage 2.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from surgmotion_jax.config import defaults, load_config
from surgmotion_jax.pretrain.config import PretrainConfig

STAGES = ("stage1", "stage2", "vjepa21", "vjepa21_stage2")
MASKS = ("tube", "multiblock")


def get_config(arg: str | None = None) -> ConfigDict:
    """A stage, on V-JEPA 2 or 2.1, and one of two kinds of masks. Raises ValueError for anything else."""
    stage, masks = choices(arg or "")
    c = defaults(PretrainConfig)
    c.steps = 60_000  # 200 epochs of 300 steps
    c.model.variant = "vit_large"
    c.model.remat = "attention"  # a TPU's attention kernels do not run again backward, for little memory
    c.data.frames = 16
    c.data.fps = 1.0
    c.data.canvas = (256, 256)  # short side 256
    c.data.holdout = 0.02  # at least one case of each dataset that has two
    c.data.holdout_by = "case"  # so that both stages keep the same videos aside, whatever the clip length
    c.data.workers = 8  # at 1 fps a clip costs seconds of decoding
    c.augment.crop = 224
    c.augment.scale = ((224 / 256) ** 2, (224 / 256) ** 2)  # a shift only: 224 of the canvas's 256 pixels
    c.augment.aspect = (1.0, 1.0)
    c.parallel.mesh = "auto"  # 6.4 GB of state and gradients: on several accelerators each updates a part
    c.mask.kind = masks
    c.mask.ratios = (0.75, 0.80, 0.85, 0.90, 0.95)
    c.optim.batch = 256
    c.optim.warmup_steps = 12_000
    c.optim.warmup_from = 0.2
    c.optim.ema = 0.99925
    c.optim.final_ema = 0.99925
    c.heldout.batch = 256  # divides over as many devices as the training batch
    c.checkpoint.keep_every = 10_000
    if stage.startswith("vjepa21"):
        use_vjepa21(c)
    if stage.endswith("stage2"):
        lengthen(c)
    return c.lock()


def choices(arg: str) -> tuple[str, str]:
    """Stage and kind of masks that an argument names; a kind of masks alone is of stage 1."""
    words = arg.split(",")
    stages, masks = ([word for word in words if word in known] for known in (STAGES, MASKS))
    if len(stages) + len(masks) < len(words) or max(len(stages), len(masks)) > 1:
        raise ValueError(
            "the config needs a stage, :stage1 or :stage2 after its name, or :vjepa21 or :vjepa21_stage2; masks are "
            f":tube or :multiblock, as in :stage2,multiblock; found {arg!r}."
        )
    return (*stages, "stage1")[0], (*masks, "tube")[0]


def use_vjepa21(c: ConfigDict) -> None:
    """The model and the context loss of V-JEPA 2.1, without its images."""
    other = load_config("pretrain/vjepa21_vitl")
    c.model.update(other.model)
    c.loss.context.update(other.loss.context)


def lengthen(c: ConfigDict) -> None:
    """Stage 2: clips of 64 frames, and a learning rate that falls on a line."""
    c.steps = 24_000  # 80 epochs of 300 steps
    c.data.frames = 64
    c.optim.batch = 64
    c.optim.schedule = "linear"
    c.optim.final_lr = 1e-6
    c.optim.warmup_steps = 0
    c.init.checkpoint = placeholder(str)  # must be given: the workdir of stage 1
    c.loss.context.rise = (0, 0)  # of V-JEPA 2.1: what stage 1 has raised stays in full
