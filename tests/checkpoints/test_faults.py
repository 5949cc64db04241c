"""Damage is noticed and named, the step before takes over, and a failed save never stops the run."""

import errno
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from states import FIELDS, abstract, assert_bit_equal, host_state, on_mesh

from surgmotion_jax.checkpoints.errors import CheckpointDamaged
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.checkpoints.subtree import load_subtree


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Steps 1 and 2, saved from 8 devices; tests damage copies."""
    directory = tmp_path_factory.mktemp("original")
    with CheckpointStore(directory) as store:
        for step in (1, 2):
            store.save(step, on_mesh(host_state(step), 8), FIELDS)
    return directory


@pytest.fixture
def copy(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def template():
    return abstract(on_mesh(host_state(1), 8))


def files(checkpoint):
    return sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())


def data_file(checkpoint):
    """The file that holds the arrays: the largest."""
    return max(checkpoint.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)


def flip(path, fraction):
    data = bytearray(path.read_bytes())
    data[int(fraction * len(data))] ^= 8
    path.write_bytes(data)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.35, 0.5, 0.65])
def test_flipped_bit_in_the_arrays_falls_back_and_names_the_leaf(copy, fraction):
    flip(data_file(copy / "2"), fraction)
    warnings: list[str] = []
    restored = CheckpointStore(copy, warn=warnings.append).restore(template())
    assert restored.step == 1
    assert_bit_equal(restored.state, host_state(1))
    ((step, reason),) = restored.skipped
    leaves = restored.manifest.tree
    assert step == 2
    assert any(leaf in reason or leaf.replace("/", ".") in reason for leaf in leaves), reason
    assert len(warnings) == 1
    assert str(copy / "2") in warnings[0]
    assert reason in warnings[0]


@pytest.mark.parametrize("fault", ["flip", "cut", "remove"])
def test_no_damage_to_any_file_gives_a_wrong_state(original, copy, fault):
    """Bits that carry nothing may change unseen; a state that is returned is bit-equal to what was saved."""
    passed_over = 0
    for name in files(original / "2"):
        path = copy / "2" / name
        if fault == "flip" and path.stat().st_size:
            flip(path, 0.4)
        elif fault == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif fault == "remove":
            path.unlink()
        restored = CheckpointStore(copy, warn=lambda _: None).restore(template())
        assert_bit_equal(restored.state, host_state(restored.step))
        assert restored.step == (1 if restored.skipped else 2)
        passed_over += len(restored.skipped)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(original / "2" / name, path)
    assert passed_over >= 4


@pytest.mark.parametrize(
    ("where", "fault"),
    [(where, fault) for where in ("data", "manifest/data.json", "state/_METADATA") for fault in ("cut", "remove")]
    + [("commit_success.txt", "remove")],
)
def test_a_file_cut_or_missing_is_passed_over(copy, where, fault):
    path = data_file(copy / "2") if where == "data" else copy / "2" / where
    if fault == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    restored = CheckpointStore(copy, warn=lambda _: None).restore(template())
    assert restored.step == 1
    assert restored.skipped[0][0] == 2


def test_without_a_sound_step_every_reason_is_told(copy):
    for step in ("1", "2"):
        data_file(copy / step).unlink()
    with pytest.raises(CheckpointDamaged, match=r"(?s)no sound checkpoint:.*step 2:.*step 1:.*another workdir"):
        CheckpointStore(copy, warn=lambda _: None).restore(template())


def test_a_step_asked_for_by_number_is_that_step_or_nothing(copy):
    assert CheckpointStore(copy).restore(template(), step=1).step == 1
    flip(data_file(copy / "2"), 0.5)
    with pytest.raises(CheckpointDamaged, match="kernel"):
        CheckpointStore(copy, warn=lambda _: None).restore(template(), step=2)


def test_part_of_a_damaged_checkpoint_loads_or_names_the_leaf(copy):
    flip(data_file(copy / "2"), 0.5)
    prefixes = ["encoder", "target_encoder", "moments"]
    found = [_load_error(copy, prefix) for prefix in prefixes]
    ((prefix, reason),) = [(prefix, reason) for prefix, reason in zip(prefixes, found, strict=True) if reason]
    assert f"{prefix}/" in reason
    with pytest.raises(CheckpointDamaged):
        load_subtree(copy, prefixes)


def _load_error(directory, prefix):
    try:
        load_subtree(directory, [prefix])
    except CheckpointDamaged as error:
        return str(error)
    return ""


def test_after_a_fall_back_retention_never_counts_the_damaged_step(copy):
    flip(data_file(copy / "2"), 0.5)
    store = CheckpointStore(copy, keep=1, warn=lambda _: None)
    state = store.restore(template()).state
    assert store.save(2, state, FIELDS, wait=True)
    names = sorted(path.name for path in copy.iterdir())
    assert names[0] == "2"
    assert names[1].startswith("2.damaged-")
    assert len(names) == 2
    restored = CheckpointStore(copy).restore(template())
    assert (restored.step, restored.skipped) == (2, ())
    assert_bit_equal(restored.state, host_state(1))


def test_unwritable_directory_warns_and_goes_on(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    warnings: list[str] = []
    with CheckpointStore(tmp_path / "file" / "checkpoints", warn=warnings.append) as store:
        assert store.save(1, {"w": jnp.ones(4)}, FIELDS) is False
        assert store.save(2, {"w": jnp.ones(4)}, FIELDS, wait=True) is False
    assert len(warnings) == 2
    assert "was not saved" in warnings[0]
    assert "training goes on" in warnings[0]


def test_disk_full_while_writing_keeps_the_step_before_and_frees_the_space(tmp_path):
    """A limit on file size stands in for a full disk: writes fail inside the storage library, midway."""
    warnings: list[str] = []
    state = on_mesh(host_state(1, size=256), 8)
    store = CheckpointStore(tmp_path, warn=warnings.append)
    assert store.save(1, state, FIELDS, wait=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        store.save(2, on_mesh(host_state(2, size=256), 8), FIELDS)
        assert store.wait() is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert len(warnings) == 1
    assert "2 was not saved" in warnings[0]
    assert "Steps on disk: [1]" in warnings[0]
    assert store.save(3, state, FIELDS, wait=True)
    assert store.steps() == [1, 3]


def test_a_failed_replacement_puts_the_old_checkpoint_back(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, warn=lambda _: None)
    assert store.save(1, {"w": jnp.ones(4)}, FIELDS, wait=True)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp, "save_checkpointables_async", full)
    assert store.save(1, {"w": jnp.zeros(4)}, FIELDS) is False
    assert store.steps() == [1]
    assert np.asarray(load_subtree(tmp_path, ["w"]).state["w"]).tolist() == [1, 1, 1, 1]


SAVER = """
import sys
from states import FIELDS, host_state, on_mesh
from surgmotion_jax.checkpoints.store import CheckpointStore
store = CheckpointStore(sys.argv[1], keep=2)
states = [on_mesh(host_state(step, size=256), 2) for step in range(4)]
for step in range(1, 10**6):
    store.save(step, states[step % 4], FIELDS)
    print(step, flush=True)
"""


def kill_during_saves(directory, kills, seed):
    """Starts a process that saves without end, kills it after a random delay, checks what it left; repeats."""
    delays = random.Random(seed)
    here = pathlib.Path(__file__).parent
    reached = 0
    for _ in range(kills):
        shutil.rmtree(directory, ignore_errors=True)
        command = [sys.executable, "-c", SAVER, str(directory)]
        environment = os.environ | {
            "PYTHONPATH": f"{here}:{here.parents[1]}",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        }
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as saver:
            assert saver.stdout is not None
            while int(saver.stdout.readline()) < 2:  # one save is complete once the next has begun
                pass
            time.sleep(delays.uniform(0, 0.3))
            saver.kill()
        warnings: list[str] = []
        store = CheckpointStore(directory, keep=2, warn=warnings.append)
        restored = store.restore(abstract(on_mesh(host_state(0, size=256), 8)))
        assert_bit_equal(restored.state, host_state(restored.step % 4, size=256))
        assert restored.step == store.latest()
        assert not warnings
        assert store.save(restored.step + 1, restored.state, FIELDS, wait=True)
        names = {path.name for path in directory.iterdir()}
        assert {str(step) for step in store.steps()} == {name for name in names if name.isdigit()}
        reached = max(reached, restored.step)
    return reached


def test_kill_9_during_a_save_leaves_a_sound_checkpoint(tmp_path):
    assert kill_during_saves(tmp_path / "run", kills=2, seed=0) >= 1


@pytest.mark.slow
def test_kill_9_at_ten_random_delays(tmp_path):
    assert kill_during_saves(tmp_path / "run", kills=10, seed=1) >= 1


def test_bfloat16_bits_survive_including_nans(tmp_path):
    every = jax.lax.bitcast_convert_type(jnp.arange(2**16, dtype=jnp.uint16), jnp.bfloat16)
    with CheckpointStore(tmp_path) as store:
        store.save(0, {"every": every}, FIELDS)
        found = store.restore({"every": jax.ShapeDtypeStruct((2**16,), jnp.bfloat16)}).state["every"]
    assert np.asarray(found).tobytes() == np.asarray(every).tobytes()
