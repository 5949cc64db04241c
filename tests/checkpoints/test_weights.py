"""Converted weights: written leaf by leaf, whole or not at all, and found again from whatever path a person gives."""

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from large_weights import SIZES
from states import FIELDS

from surgmotion_jax.checkpoints import store, weights
from surgmotion_jax.checkpoints.errors import CheckpointDamaged, CheckpointError, CheckpointMissing
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.checkpoints.subtree import load_subtree
from surgmotion_jax.checkpoints.weights import find_weights, save_weights

SOURCE = {"file": "vitl.pt", "sha256": "0" * 64}
WEIGHTS = ManifestFields("weights", {"variant": "tiny"}, {}, SOURCE)
ROOT = Path(__file__).parents[2]


def tree():
    generator = np.random.default_rng(0)

    def encoder():
        kernel = generator.standard_normal((3, 8, 16)).astype(np.float32)
        return {"blocks": {"kernel": kernel, "bias": kernel[:, 0].astype(ml_dtypes.bfloat16)}, "norm": kernel[0, 0]}

    return {"params": {"encoder": encoder(), "predictor": {"turned": kernel_T()}}, "target": {"encoder": encoder()}}


def kernel_T():
    return np.arange(6, dtype=np.float32).reshape(2, 3).T


def as_functions(leaves):
    return jax.tree.map(lambda leaf: lambda: leaf, leaves)


@pytest.mark.parametrize("batch_bytes", [1, weights._BATCH_BYTES], ids=["each leaf alone", "together"])
def test_weights_come_back_bit_by_bit(batch_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_BATCH_BYTES", batch_bytes)
    dst = tmp_path / "folder" / "ours"
    save_weights(dst, as_functions(tree()), WEIGHTS)
    restored = load_subtree(find_weights(dst), ["params", "target"])
    assert jax.tree.structure(restored.state) == jax.tree.structure(tree())
    for found, saved in zip(jax.tree.leaves(restored.state), jax.tree.leaves(tree()), strict=True):
        assert (found.dtype, found.tobytes()) == (saved.dtype, saved.tobytes())
    assert (restored.manifest.kind, restored.manifest.step, restored.manifest.source) == ("weights", 0, SOURCE)
    assert [entry.name for entry in dst.parent.iterdir()] == ["ours"]


def test_the_manifest_is_that_of_an_ordinary_save(tmp_path):
    save_weights(tmp_path / "ours", tree(), WEIGHTS)
    with CheckpointStore(tmp_path / "usual") as usual:
        assert usual.save(0, tree(), WEIGHTS, wait=True)
    assert CheckpointStore(tmp_path / "ours").read_manifest() == usual.read_manifest()


def test_damage_to_converted_weights_is_noticed(tmp_path):
    """A bit anywhere: reading fails, or the bit lies in what a later write replaced, and nothing read differs."""
    save_weights(tmp_path / "ours", tree(), WEIGHTS)
    noticed = 0
    for data in sorted(tmp_path.glob("ours/0/state/**/d/*")):
        whole = data.read_bytes()
        for place in range(len(whole) // 10, len(whole), len(whole) // 5):
            data.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            try:
                restored = load_subtree(tmp_path / "ours", ["params", "target"])
            except CheckpointDamaged:
                noticed += 1
                continue
            for found, saved in zip(jax.tree.leaves(restored.state), jax.tree.leaves(tree()), strict=True):
                assert found.tobytes() == saved.tobytes(), f"bit of byte {place} of {data}"
        data.write_bytes(whole)
    assert noticed


def test_one_batch_of_leaves_is_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_BATCH_BYTES", 1)
    alive, most = weakref.WeakSet(), 0

    class Counted(np.ndarray):
        """An array that can be counted while it lives."""

    def make():
        nonlocal most
        leaf = np.ones(1000, np.float32).view(Counted)
        alive.add(Owner(leaf))
        most = max(most, len(alive))
        return leaf

    class Owner:
        """Lives as long as the leaf."""

        def __init__(self, leaf):
            leaf.owner = self

    save_weights(tmp_path / "ours", {f"leaf{i}": make for i in range(6)}, WEIGHTS)
    assert most == 1, most


def test_an_existing_place_is_not_overwritten(tmp_path):
    (tmp_path / "ours").mkdir()
    with pytest.raises(CheckpointError, match="ours: exists already and is not overwritten"):
        save_weights(tmp_path / "ours", tree(), WEIGHTS)
    with pytest.raises(CheckpointError, match="gs://bucket/ours: converted weights are written to a local directory"):
        save_weights("gs://bucket/ours", tree(), WEIGHTS)


def fail():
    raise KeyError("the last leaf")


@pytest.mark.parametrize(
    ("leaves", "fields", "error", "message"),
    [
        (as_functions(tree()) | {"z": fail}, WEIGHTS, KeyError, "the last leaf"),
        (tree() | {"z": lambda: "text"}, WEIGHTS, ValueError, "leaf z: dtype <U4, allowed are numbers and booleans"),
        ({}, WEIGHTS, ValueError, "no weights: there is no leaf to save"),
        ({"a/b": np.ones(2)}, WEIGHTS, ValueError, "no name may hold '/'"),
        (tree(), ManifestFields("weights", {}, {"lr": np.inf}), ValueError, "manifest field config"),
    ],
)
def test_a_failure_leaves_nothing(leaves, fields, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_BATCH_BYTES", 1)
    with pytest.raises(error, match=message):
        save_weights(tmp_path / "ours", leaves, fields)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("action", ["save", "finalize"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(action, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("No space left on device\nand a long tale")

    monkeypatch.setattr(store.ocp.partial, action, full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device; check free space"):
        save_weights(tmp_path / "ours", tree(), WEIGHTS)
    assert not list(tmp_path.iterdir())


def test_weights_are_found_from_a_workdir_its_steps_or_one_of_them(tmp_path):
    run = tmp_path / "run"
    with CheckpointStore(run / "checkpoints") as saved:
        for step in (2, 10):
            assert saved.save(step, tree(), FIELDS, wait=True)
    newest = run / "checkpoints" / "10"
    for path in (run, run / "checkpoints", newest, str(run), os.path.relpath(run)):
        assert os.fspath(find_weights(path)) == str(newest)
    assert find_weights(run / "checkpoints" / "2").name == "2"
    (newest / "commit_success.txt").unlink()
    assert find_weights(run).name == "2"


def test_what_is_found_instead_is_named(tmp_path):
    with pytest.raises(CheckpointMissing, match="none: no such directory"):
        find_weights(tmp_path / "none")
    with pytest.raises(CheckpointMissing, match="no complete checkpoint here, found nothing; give a workdir"):
        find_weights(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CheckpointMissing, match=r"found notes.txt; give"):
        find_weights(tmp_path)
    with pytest.raises(CheckpointMissing, match="notes.txt: a file, not a directory.*surgmotion convert"):
        find_weights(tmp_path / "notes.txt")
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(CheckpointMissing, match=r"weights of another program .model.safetensors, notes.txt."):
        find_weights(tmp_path)


def converted(size, folder):
    """What converting a random file of that size cost, in a process of its own."""
    program = Path(__file__).with_name("large_weights.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, str(program), size, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("size", [size for size in SIZES if size != "tiny"])
def test_memory_stays_far_below_the_model(size, tmp_path, capsys):
    width, depth, mlp = SIZES[size]
    needed = 8 * 4 * depth * width * (4 * width + 2 * mlp)
    if shutil.disk_usage(tmp_path).free < needed:
        pytest.skip(f"{size} needs {needed / 1e9:.0f} GB of free disk")
    (tmp_path / "large").mkdir()
    costs = converted(size, tmp_path / "large")
    with capsys.disabled():
        print(f"\n{size}: {json.dumps(costs)}")
    for kind in ("checkpoint", "safetensors"):
        assert costs[kind]["peak"] <= 1.3 * costs["written"] + 0.5e9
