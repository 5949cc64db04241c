"""One clip that turns to NaN on one device: no device takes the update, the run goes on, and ends after N in a row."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.parallel.mesh import MeshLayout, to_global
from surgmotion_jax.pretrain import objective
from surgmotion_jax.pretrain.loop import Services, train
from surgmotion_jax.pretrain.sample.masks import MaskProgram, mask_programs
from surgmotion_jax.pretrain.state import TrainState, abstract_state, init_state, shardings_of
from surgmotion_jax.pretrain.step import abstract_batch, jit_train_step, prepare_shards
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import random_batch, small_config

CLIPS, MARKED = 8, 5
CONFIG = small_config(
    **{"model.variant": "vit_tiny", "model.depth": 1, "model.predictor.heads": 3, "augment.crop": 32, "data.frames": 4},
    **{"data.canvas": (32, 32), "mask.ratios": (0.5,), "run.log_every": 1, "alarms.nonfinite_steps": 3, "steps": 9},
)
QUICKLY = {"xla_backend_optimization_level": 0}  # the same program, compiled in half the time


class Machine(NamedTuple):
    """A compiled step over eight devices, whose pixels turn to NaN where a clip is white."""

    layout: MeshLayout
    program: MaskProgram
    step: Any
    poisoned_BxNxP: jax.Array
    initial: TrainState  # on the host, since a step takes its state

    def state(self):
        return jax.device_put(self.initial, shardings_of(abstract_state(CONFIG, self.layout)))


def batch(seed, poisoned=False):
    """A batch whose clip number `MARKED`, if poisoned, is white throughout: the mark that `poison` looks for."""
    clips = random_batch(CONFIG, CLIPS, seed)
    if poisoned:
        clips.video_BxTxHxWx3[MARKED] = 255
    return clips


MESHES = [
    pytest.param((8, 1, 1), id="data 8"),
    pytest.param((1, 8, 1), id="fsdp 8", marks=pytest.mark.slow),
    pytest.param((2, 4, 1), id="data 2 x fsdp 4", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=MESHES)
def machine(request):
    whole = objective.normalise_pixels

    def poison(video01):
        white_B = (video01 > 0.999).all(axis=(1, 2, 3, 4), keepdims=True)
        return jnp.where(white_B, jnp.nan, whole(video01))

    layout, program = layout_of(*request.param), mask_programs(CONFIG.mask, CONFIG.grid)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "normalise_pixels", poison)
        abstract = abstract_state(CONFIG, layout), abstract_batch(CONFIG, layout, CLIPS)
        step = jit_train_step(CONFIG, program, layout).lower(*abstract).compile(QUICKLY)
        prepare = jax.jit(lambda b: prepare_shards(b, jnp.int32(0), CONFIG, program, layout, True).patches_BxNxP)
        patches = prepare.lower(abstract[1]).compile(QUICKLY)(to_global(layout, batch(0, poisoned=True), CLIPS))
    initial = jax.jit(lambda: init_state(CONFIG)).lower().compile(QUICKLY)()
    return Machine(layout, program, step, patches, jax.device_get(initial))


def bits(state):
    """Every shard of every leaf but the step, by path and device."""
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(step=jnp.zeros(())))
    return {
        (jax.tree_util.keystr(path), shard.device.id): (shard.index, np.asarray(shard.data).tobytes())
        for path, leaf in leaves
        for shard in leaf.addressable_shards
    }


def test_the_poison_is_on_one_device_only(machine):
    shards = machine.poisoned_BxNxP.addressable_shards
    assert len(shards) == 8
    assert [np.isnan(shard.data).any() for shard in shards].count(True) == 1


def test_a_poisoned_clip_changes_no_bit_on_any_device(machine):
    step, layout = machine.step, machine.layout
    state, metrics = step(machine.state(), to_global(layout, batch(0), CLIPS))
    assert metrics["optim/skipped"] == 0
    before = bits(state)
    state, metrics = step(state, to_global(layout, batch(1, poisoned=True), CLIPS))
    assert not np.isfinite(metrics["loss/total"])
    for shard in metrics["optim/skipped"].addressable_shards:
        assert np.asarray(shard.data) == 1, f"device {shard.device.id} took the update"
    assert bits(state) == before
    copies = {}
    for (path, _), (index, data) in before.items():
        copies.setdefault((path, str(index)), set()).add(data)
    assert all(len(different) == 1 for different in copies.values()), "copies of a shard differ between devices"
    assert int(state.step) == 2
    state, metrics = step(state, to_global(layout, batch(2), CLIPS))
    assert metrics["optim/skipped"] == 0
    assert bits(state) != before
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_the_run_goes_on_after_skipped_updates_and_ends_after_the_budget(machine):
    """The real loop: two updates in a row are skipped, one is taken, then three are skipped."""
    records, events, saved, poisoned = {}, [], [], {1, 2, 4, 5, 6}
    held_out = {"heldout/loss": 1.0, "heldout/constant": 1.0, "heldout/shuffled": 1.0, "gauge/rankme": 50.0}
    services = Services(
        batches=(to_global(machine.layout, batch(i, i in poisoned), CLIPS) for i in range(CONFIG.steps)),
        evaluate=lambda _: (held_out, None),
        save=lambda step, *_: saved.append(step),
        record=lambda kind, step, metrics: records.update({(kind, step): metrics}),
        event=lambda step, text: events.append((step, text)),
        progress=lambda *_: None,
        picture=lambda *_: None,
        interrupted=lambda _: False,
        memory_gb=lambda: 0.0,
    )
    steps = {machine.program.name: machine.step}
    state, ending = train(CONFIG, (machine.program,), steps, machine.state(), services)
    skipped = [step for (kind, step), metrics in records.items() if kind == "train" and metrics["optim/skipped"]]
    assert skipped == [2, 3, 5, 6, 7]
    assert events == [(step, "1 updates skipped: loss or gradient not finite") for step in skipped]
    assert (ending.kind, ending.step) == ("nonfinite", 7)
    assert "3 updates in a row up to step 7 were skipped" in ending.reason
    assert "alarms.nonfinite_steps = 3" in ending.reason
    assert saved == [], "the last good checkpoint must stay the newest"
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
