"""Moments in host memory: the same training, saved and restored there, and a clear word where there is none."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.parallel.mesh import to_global
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.initial import plan_initial, start_from
from surgmotion_jax.pretrain.state import (
    HOST,
    TrainState,
    abstract_state,
    create_state,
    in_host_memory,
    kept_for_parameters,
)
from surgmotion_jax.pretrain.step import compile_train_step
from tests.parallel.test_sharding import layout_of
from tests.pretrain.fixtures import random_batch, small_config

LOW = {"optim.moments_dtype": "bfloat16", "loss.affinity.weight": 0.0}
SMALL = {"model.variant": "vit_nano"}


def counters(state):
    return [x for x in jax.tree.leaves(state.opt_state) if x.ndim == 0]


def kinds(tree):
    return {x.sharding.memory_kind for x in jax.tree.leaves(tree)}


@functools.cache
def compiled_step(offload):
    """One compilation of each kind for all tests."""
    config = small_config(**LOW, **{"optim.offload": offload})
    return compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout_of(1, 2, 1))


def two_steps(offload, state):
    layout = layout_of(1, 2, 1)
    for i in range(2):
        batch = to_global(layout, random_batch(small_config(), 8, seed=i), 8)
        state, _ = compiled_step(offload)(state, batch)
    return state


def created(offload):
    return create_state(small_config(**LOW, **{"optim.offload": offload}), layout_of(1, 2, 1))


@pytest.fixture(scope="module")
def offloaded():
    return two_steps(True, created(True))


@pytest.mark.slow
def test_offloading_changes_where_moments_are_and_nothing_else(offloaded):
    plain = two_steps(False, created(False))
    assert kinds(kept_for_parameters(offloaded)) == {HOST}
    assert HOST not in kinds((offloaded.params, offloaded.target, plain.opt_state))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(offloaded), jax.device_get(plain))


@pytest.mark.slow
def test_offloaded_moments_are_saved_with_their_precision_and_restored_to_the_host(offloaded, tmp_path):
    config = small_config(**LOW, **{"optim.offload": True})
    store = CheckpointStore(tmp_path, keep=1, keep_every=0)
    assert store.save(2, offloaded, ManifestFields("pretrain", architecture(config.model), {}))
    store.wait()
    tree = store.read_manifest().tree
    stored = {entry["dtype"] for path, entry in tree.items() if path.startswith("opt_state/") and "/mu/" in path}
    assert stored == {"bfloat16"}
    layout = layout_of(2, 2, 1)
    restored = TrainState(*store.restore(abstract_state(config, layout)).state)
    assert kinds(kept_for_parameters(restored)) == {HOST}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(offloaded))


def drawn(config, layout, seed=0):
    """A state of random numbers laid out as a run's: nothing is compiled."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding)

    return jax.tree.map(draw, abstract_state(config, layout))


def saved(folder, config, state):
    """What a run finds that starts from a workdir with this state, moments included."""
    store = CheckpointStore(folder / "checkpoints")
    assert store.save(7, state, ManifestFields("pretrain", architecture(config.model), {}), wait=True)
    return plan_initial(InitConfig(str(folder), optimizer=True), config.model)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(True, True), (False, True), (True, False)])
def test_moments_of_another_run_start_where_this_one_keeps_its_own(before, after, tmp_path):
    """init.optimizer with optim.offload on either side, and on another mesh."""
    old, new = (small_config(**LOW, **SMALL, **{"optim.offload": offload}) for offload in (before, after))
    source = drawn(old, layout_of(1, 2, 1), seed=1)
    fresh = drawn(new, layout_of(2, 2, 1), seed=2)
    started = start_from(saved(tmp_path, old, source), fresh)
    assert (kinds(kept_for_parameters(started)) == {HOST}) == after
    assert HOST not in kinds((started.params, started.target, counters(started)))
    assert jax.tree.map(lambda x: x.sharding, started) == jax.tree.map(lambda x: x.sharding, fresh)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(started.opt_state), jax.device_get(source.opt_state))
    assert {x.dtype.name for x in jax.tree.leaves(kept_for_parameters(started))} == {"bfloat16"}


@pytest.mark.slow
def test_a_start_from_offloaded_moments_trains_as_one_from_moments_on_the_device(offloaded, tmp_path):
    def trained(offload, optimizer):
        config = small_config(**LOW, **{"optim.offload": offload})
        initial = plan_initial(InitConfig(str(tmp_path), optimizer=optimizer), config.model)
        fresh = jax.tree.map(lambda x: jax.device_put(np.zeros_like(x), x.sharding), drawn(config, layout_of(1, 2, 1)))
        return jax.device_get(two_steps(offload, start_from(initial, fresh)))

    saved(tmp_path, small_config(**LOW, **{"optim.offload": True}), offloaded)
    there = trained(True, optimizer=True)
    jax.tree.map(np.testing.assert_array_equal, there, trained(False, optimizer=True))
    cold = trained(True, optimizer=False)
    assert not np.array_equal(there.target["norm"]["scale"], cold.target["norm"]["scale"]), "moments must matter"


def test_devices_without_host_memory_are_refused():
    device = SimpleNamespace(device_kind="toy", addressable_memories=lambda: [SimpleNamespace(kind="device")])
    layout = SimpleNamespace(mesh=SimpleNamespace(devices=np.array([device])))
    with pytest.raises(ValueError, match="devices of kind 'toy' reach no host memory 'pinned_host' .only device"):
        in_host_memory({}, layout)
