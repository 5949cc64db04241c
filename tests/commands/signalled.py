"""Runs a command whose processes all get a signal at a moment of its own: MOMENT NUMBER COMMAND ARGUMENTS...

A moment is a function that is called then, `module:name`, and by its how-manyth call; a `+` behind it means once the
call has returned. Shared memory of this program and of its workers has names that begin with the text of SHM_PREFIX.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import shared_memory

from surgmotion_jax.__main__ import main

if "SHM_PREFIX" in os.environ:  # at the top, so that it holds in spawned workers too
    shared_memory._SHM_NAME_PREFIX = f"/{os.environ['SHM_PREFIX']}"

MOMENTS = {
    ("pretrain", "starting"): "surgmotion_jax.runs.pretraining:gather 1",
    ("pretrain", "decoding"): "surgmotion_jax.pretrain.loop:Interval.next 3",
    ("pretrain", "stepping"): "surgmotion_jax.pretrain.loop:Interval.add 3",
    ("pretrain", "saving"): "surgmotion_jax.checkpoints.store:CheckpointStore.save 1+",
    ("pretrain", "ending"): "surgmotion_jax.runs.training:Training.close 1",
    ("evaluate", "starting"): "surgmotion_jax.commands.evaluate:open_source 1",
    ("evaluate", "decoding"): "surgmotion_jax.evaluate.features.cache:Encoding.__call__ 1+",
    ("evaluate", "stepping"): "surgmotion_jax.evaluate.heads.sweep:Sweep.step 2",
    ("evaluate", "saving"): "surgmotion_jax.evaluate.heads.fit:save_tree 1",
    ("evaluate", "ending"): "surgmotion_jax.runs.evaluation:write_page 1",
    ("extract", "starting"): "surgmotion_jax.commands.extract:load_encoder 1",
    ("extract", "decoding"): "surgmotion_jax.evaluate.features.extract:read_windows 2",
    ("extract", "stepping"): "surgmotion_jax.evaluate.features.extract:_Run._encode 2",
    ("extract", "saving"): "surgmotion_jax.evaluate.features.extract:FeatureIndex.add 1",
    ("extract", "ending"): "surgmotion_jax.commands.extract:ProgressLine.end 1",
    ("simulate", "starting"): "surgmotion_jax.commands.simulate:generate 1",
    ("simulate", "drawing"): "surgmotion_jax.simulate.generate:_case 2",  # in this process
    ("simulate", "publishing"): "surgmotion_jax.simulate.generate:publish 1",
    ("simulate", "waiting"): "surgmotion_jax.simulate.generate:as_completed 1",  # for workers
    ("simulate", "listing"): "surgmotion_jax.simulate.generate:_case 1",  # once workers are done
    ("simulate", "writing"): "surgmotion_jax.storage:write_text_atomic 2",
}


def signal_at(moment: str, act: Callable[[], None]) -> None:
    """Calls `act` at a moment."""
    place, _, turn = moment.partition(" ")
    module, _, name = place.partition(":")
    *parents, last = name.split(".")
    owner = functools.reduce(getattr, parents, importlib.import_module(module))
    original, calls = getattr(owner, last), []

    @functools.wraps(original)
    def watched(*args, **kwargs):
        calls.append(1)
        due = len(calls) == int(turn.rstrip("+"))
        if due and not turn.endswith("+"):
            act()
        result = original(*args, **kwargs)
        if due and turn.endswith("+"):
            act()
        return result

    setattr(owner, last, watched)


if __name__ == "__main__":
    # A shell lets what it runs in the background ignore Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked, number, *arguments = sys.argv[1:]
    if asked != "never":
        signal_at(MOMENTS[arguments[0], asked], lambda: os.killpg(os.getpgrp(), int(number)))
    sys.exit(main(arguments))
