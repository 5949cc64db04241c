"""Everything that is compiled before the first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jax.stages import Compiled

from surgmotion_jax.pretrain.loop import TrainStep
from surgmotion_jax.pretrain.monitor.heldout import HeldoutBatch, compile_heldout_step
from surgmotion_jax.pretrain.monitor.probing import compile_pooled_features
from surgmotion_jax.pretrain.objective import RawBatch
from surgmotion_jax.pretrain.sample.masks import MaskProgram
from surgmotion_jax.pretrain.state import TrainState
from surgmotion_jax.pretrain.step import compile_train_step
from surgmotion_jax.runs.inputs import Inputs
from surgmotion_jax.runs.probe import Probe
from surgmotion_jax.runs.session import Session


@dataclass(frozen=True)
class Programs:
    """The functions that a run calls on the devices.

    Attributes:
      masks: the mask programs.
      steps: the training step of each, by its name.
      heldout: errors and gauges of one held-out batch.
      probe: metrics of the frozen encoder on a labelled set, where there is one.
    """

    masks: tuple[MaskProgram, ...]
    steps: Mapping[str, TrainStep]
    heldout: Callable[[TrainState, RawBatch], HeldoutBatch]
    probe: Callable[[TrainState], dict[str, float]] | None = None


def compile_programs(session: Session, inputs: Inputs) -> Programs:
    """Compiles every program, and says how many and how long."""
    started = time.monotonic()
    config, layout, masks = session.config, session.layout, inputs.masks
    steps: dict[str, Compiled] = {mask.name: compile_train_step(config, mask, layout) for mask in masks}
    heldout = compile_heldout_step(config, masks[len(masks) // 2], layout)
    probe = None
    if inputs.probed is not None:
        probe = Probe(config, layout, inputs.probed, compile_pooled_features(config, layout))
    analysis = next(iter(steps.values())).memory_analysis()
    temporaries = f", {analysis.temp_size_in_bytes / 1e9:.3f} GB temporaries per device" if analysis else ""
    kinds = f"{len(steps)} training + 1 held-out program" + (" + 1 of the probe" if probe else "")
    session.say(f"{'compiled':>12}  {kinds} in {time.monotonic() - started:.1f} s{temporaries}")
    return Programs(masks, steps, heldout, probe)
