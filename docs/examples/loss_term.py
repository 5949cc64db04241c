"""A loss term of one's own, in an ablation beside the terms of the paper.

python docs/examples/loss_term.py VIDEOS WORKDIR [--config.FIELD=VALUE ...]

The term is the squared distance between the mean prediction and the mean target of a clip.
"""

import sys
from dataclasses import dataclass

import jax.numpy as jnp

from surgmotion_jax.commands import ablate
from surgmotion_jax.pretrain.losses.table import TERMS
from surgmotion_jax.pretrain.losses.term import Measured, Term, TermConfig, TermInputs


@dataclass(frozen=True)
class MeanConfig(TermConfig):
    """Its fields become flags: --config.loss.mean.weight, --config.loss.mean.power."""

    weight: float = 0.0  # its weight in the total; 0 leaves it out
    power: float = 2.0  # of the distance


def measure(inputs: TermInputs, settings: MeanConfig) -> Measured:
    """The distance, averaged over clips and features."""
    gap_BxD = inputs.predicted_BxMxD.mean(1) - inputs.target_BxMxD.mean(1)
    return Measured((jnp.abs(gap_BxD) ** settings.power).mean())


TERMS["mean"] = Term(label="distance of means", unit="squared", settings=MeanConfig, measure=measure)

if __name__ == "__main__":
    videos, workdir, *flags = sys.argv[1:]
    fixed = ["--config=ablate/tiny", f"--data={videos}", f"--workdir={workdir}", "--rows=plain,mean"]
    sys.exit(ablate.main([*fixed, "--config.loss.mean.weight=0.5", *flags]))
