"""Moments in host memory: the same training, saved and restored there, and a clear word where there is none."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.parallel.mesh import to_global
from surgmotion_jax.pretrain.masks import mask_programs
from surgmotion_jax.pretrain.state import HOST, TrainState, abstract_state, create_state, in_host_memory
from surgmotion_jax.pretrain.step import compile_train_step
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import random_batch, small_config

LOW = {"optim.moments_dtype": "bfloat16", "loss.affinity.weight": 0.0}


def kinds(tree):
    return {x.sharding.memory_kind for x in jax.tree.leaves(tree)}


def two_steps(config, layout):
    step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
    state = create_state(config, layout)
    for i in range(2):
        state, _ = step(state, to_global(layout, random_batch(config, 8, seed=i), 8))
    return state


@pytest.fixture(scope="module")
def offloaded():
    return two_steps(small_config(**LOW, **{"optim.offload": True}), layout_of(1, 2, 1))


@pytest.mark.slow
def test_offloading_changes_where_moments_are_and_nothing_else(offloaded):
    plain = two_steps(small_config(**LOW), layout_of(1, 2, 1))
    assert kinds((offloaded.moments.mu, offloaded.moments.nu)) == {HOST}
    assert HOST not in kinds((offloaded.params, offloaded.target, plain.moments))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(offloaded), jax.device_get(plain))


@pytest.mark.slow
def test_offloaded_moments_are_saved_with_their_precision_and_restored_to_the_host(offloaded, tmp_path):
    config = small_config(**LOW, **{"optim.offload": True})
    store = CheckpointStore(tmp_path, keep=1, keep_every=0)
    assert store.save(2, offloaded, ManifestFields("pretrain", architecture(config.model), {}))
    store.wait()
    stored = {entry["dtype"] for path, entry in store.read_manifest().tree.items() if path.startswith("moments/mu")}
    assert stored == {"bfloat16"}
    layout = layout_of(2, 2, 1)
    restored = TrainState(*store.restore(abstract_state(config, layout)).state)
    assert kinds(restored.moments.mu) == {HOST}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(offloaded))


def test_devices_without_host_memory_are_refused():
    device = SimpleNamespace(device_kind="toy", addressable_memories=lambda: [SimpleNamespace(kind="device")])
    layout = SimpleNamespace(mesh=SimpleNamespace(devices=np.array([device])))
    with pytest.raises(ValueError, match="devices of kind 'toy' reach no host memory 'pinned_host' .only device"):
        in_host_memory({}, layout)
