"""The named parts of the paper's corpus (arXiv 2602.05638, pretraining data) as sources, for those who have them.

The argument is a folder that holds a folder, or a link to one, of each data set under the name that it has in PARTS:

  surgmotion data ingest --config=configs/pretrain/surgical_mix.py:VIDEOS --out=corpus --exclude=lists/cholec80.json
  surgmotion pretrain --config=configs/pretrain/surgical_mix.py --data=records:corpus --workdir=runs/mix
  surgmotion pretrain --config=configs/pretrain/surgical_mix.py --data=records:corpus --workdir=runs/mix-4fps \
      --config.data.fps=4

A part that is not there is left out and named on stderr; with `all=VIDEOS` as the argument it is an error. The paper's
private recordings (bronchoscopy, breast, brain) cannot be had: put your own under a name of your own in a copy of this
file. Specialties decide how often a part is drawn, and the paper does not print its table of them: these are ours. The
rest is stage 1 of `surgmotion_vitl`. `surgmotion doctor --config=` prints hours and part of the draws of each.

Nearly all of these sets serve as benchmarks too. Leave their test videos out by lists, and look before a run:

  surgmotion data leaks --config=configs/pretrain/surgical_mix.py:VIDEOS --lists=lists/cholec80.json
"""

import os
import sys

from ml_collections import ConfigDict

from surgmotion_jax.config import entry, load_config
from surgmotion_jax.data.config import SourceConfig

PARTS = {
    "pitvis": "pituitary",
    "avos": "open surgery",
    "ophnet": "eye",
    "cataracts": "eye",
    "multibypass140": "stomach",
    "copesd": "digestive endoscopy",
    "cholec80": "gallbladder",
    "m2cai16": "gallbladder",
    "endofm": "digestive endoscopy",
    "autolaparo": "uterus",
    "psi_ava": "prostate",
    "pmlr50": "liver",
    "jigsaws": "training",
    "aixsuture": "training",
}
"""Specialty by name of a data set."""


def get_config(arg: str | None = None) -> ConfigDict:
    """Stage 1 of SurgMotion-L on the parts that a folder holds; without an argument, on none yet.

    Raises ValueError where the folder is none, holds no part, or lacks one under `all=`.
    """
    c = load_config("pretrain/surgmotion_vitl:stage1").copy_and_resolve_references().unlock()
    if arg:
        for name in present(arg.removeprefix("all="), everything=arg.startswith("all=")):
            path = os.path.join(arg.removeprefix("all="), name)
            c.data.sources[name] = entry(SourceConfig, path=path, specialty=PARTS[name])
    return c.lock()


def present(folder: str, everything: bool) -> list[str]:
    """The parts that a folder holds."""
    found = [name for name in PARTS if os.path.isdir(os.path.join(folder, name))]
    missing = ", ".join(name for name in PARTS if name not in found)
    if not found or (missing and everything):
        raise ValueError(f"pretrain/surgical_mix: {folder} holds no folder {missing}; link each data set there by name")
    if missing:
        print(f"pretrain/surgical_mix: not in {folder}, left out: {missing}", file=sys.stderr)
    return found
