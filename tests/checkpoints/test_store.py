"""Laws of saving and restoring: bit-equal on any mesh, retention, refusals, partial loads."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from states import ARCHITECTURE, FIELDS, abstract, assert_bit_equal, host_state, on_mesh

from surgmotion_jax.checkpoints.errors import (
    CheckpointDamaged,
    CheckpointMismatch,
    CheckpointMissing,
    CheckpointOfAnotherSchema,
)
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.checkpoints.subtree import load_subtree


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with one checkpoint, step 3, that no test changes."""
    directory = tmp_path_factory.mktemp("saved")
    with CheckpointStore(directory) as store:
        assert store.save(3, on_mesh(host_state(3), 8), FIELDS)
    return directory


def test_round_trip_is_bit_equal_over_8_4_1_and_8_devices(tmp_path):
    expected = host_state(1)
    state = on_mesh(expected, 8)
    for step, devices in enumerate([4, 1, 8]):
        store = CheckpointStore(tmp_path)
        assert store.save(step, state, FIELDS, wait=True)
        template = abstract(on_mesh(expected, devices))
        restored = store.restore(template)
        state = restored.state
        assert restored.step == step
        assert restored.skipped == ()
        assert_bit_equal(state, expected)
        for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(template), strict=True):
            assert leaf.sharding == wanted.sharding


def test_state_may_be_donated_right_after_save(tmp_path):
    """The writer behind must hold the arrays or a copy, or it would store the next step's values."""
    expected = host_state(5, size=512)
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    state = on_mesh(expected, 8)
    advance(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))  # so the step does reuse its input
    state = on_mesh(expected, 8)
    with CheckpointStore(tmp_path) as store:
        assert store.save(5, state, FIELDS)
        template = abstract(state)
        jax.block_until_ready(advance(state))
        assert_bit_equal(store.restore(template).state, expected)


def test_manifest_tells_step_tree_and_versions_without_loading(saved):
    manifest = CheckpointStore(saved).read_manifest()
    assert (manifest.step, manifest.kind, manifest.architecture) == (3, "pretrain", ARCHITECTURE)
    assert manifest.config == {"steps": 10, "lr": 1e-3}
    assert manifest.source is None
    assert set(manifest.versions) == {"package", "jax", "flax", "orbax", "python"}
    assert manifest.tree["encoder/scale"]["dtype"] == "bfloat16"
    assert manifest.tree["moments/0/mean/kernel"]["shape"] == [32, 64]
    assert len(manifest.tree) == 8


def test_retention_keeps_the_newest_and_every_nth(tmp_path):
    state = on_mesh(host_state(0, size=8), 1)
    with CheckpointStore(tmp_path, keep=2, keep_every=4) as store:
        for step in range(1, 10):
            assert store.save(step, state, FIELDS)
    assert store.steps() == [4, 8, 9]
    assert store.latest() == 9


def test_retention_deletes_only_what_it_can_prove_its_own(tmp_path):
    state = on_mesh(host_state(0, size=8), 1)
    with CheckpointStore(tmp_path, keep=5) as store:
        store.save(1, state, FIELDS)
    foreign = ["0", "notes", "7.orbax-checkpoint-tmp", "8.deleting-1"]
    for name in foreign:
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").write_text("mine")
    (tmp_path / "1").rename(tmp_path / "2")  # a copy under another step's name proves nothing
    with CheckpointStore(tmp_path, keep=1) as store:
        store.save(3, state, FIELDS)
        store.save(4, state, FIELDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["2", "4", *foreign])


def test_leftovers_proved_our_own_are_swept(tmp_path):
    state = on_mesh(host_state(0, size=8), 1)
    with CheckpointStore(tmp_path) as store:
        for step in (1, 2, 3):
            store.save(step, state, FIELDS)
    (tmp_path / "1").rename(tmp_path / "1.orbax-checkpoint-tmp")
    (tmp_path / "2").rename(tmp_path / "2.deleting-7")
    assert store.steps() == [3]
    assert store.save(4, state, FIELDS, wait=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_saving_a_step_again_writes_only_a_different_state(tmp_path):
    warnings: list[str] = []
    with CheckpointStore(tmp_path, warn=warnings.append) as store:
        assert store.save(1, on_mesh(host_state(1), 8), FIELDS, wait=True)
        written = (tmp_path / "1" / "commit_success.txt").stat().st_mtime_ns
        assert store.save(1, on_mesh(host_state(1), 4), FIELDS, wait=True)
        assert (tmp_path / "1" / "commit_success.txt").stat().st_mtime_ns == written
        assert not warnings
        other = on_mesh(host_state(2), 8)
        assert store.save(1, other, FIELDS, wait=True)
        assert_bit_equal(store.restore(abstract(other)).state, host_state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert len(warnings) == 1
    assert "saved anew" in warnings[0]


def test_dtype_that_differs_is_refused_not_cast(saved):
    template = abstract(on_mesh(host_state(3), 8))
    kernel = template.encoder["kernel"]
    half = jax.ShapeDtypeStruct(kernel.shape, jnp.bfloat16, sharding=kernel.sharding)
    wrong = dataclasses.replace(template, encoder=template.encoder | {"kernel": half})
    with pytest.raises(CheckpointMismatch) as caught:
        CheckpointStore(saved).restore(wrong)
    assert caught.value.differences == ("encoder/kernel: dtype float32 in the checkpoint, bfloat16 requested",)


def test_another_architecture_is_refused_with_fields_and_leaves(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save(step, on_mesh(host_state(1), 8), FIELDS, wait=True)
    template = abstract(on_mesh(host_state(1, size=16), 8))
    extra = dataclasses.replace(template, encoder={"bias": template.encoder["scale"]})
    with pytest.raises(CheckpointMismatch) as caught:
        store.restore(extra, architecture=ARCHITECTURE | {"depth": 3, "heads": 6})
    text = str(caught.value)
    for line in (
        "architecture.depth: 2 in the checkpoint, 3 requested",
        "architecture.heads: not in the checkpoint, 6 requested",
        "encoder/bias: not in the checkpoint",
        "encoder/kernel: in the checkpoint, not requested",
        "target_encoder/kernel: shape [32, 64] in the checkpoint, [16, 32] requested",
        str(tmp_path / "2"),
        "another workdir",
    ):
        assert line in text
    assert isinstance(caught.value, ValueError)
    assert store.steps() == [1, 2]


def test_long_difference_lists_are_cut_in_the_text_only():
    error = CheckpointMismatch("here", [f"leaf {i}" for i in range(50)])
    assert len(error.differences) == 50
    assert "and 30 more" in str(error)
    assert "leaf 20" not in str(error)


def test_missing_checkpoints_are_named(tmp_path, saved):
    template = abstract(on_mesh(host_state(3), 8))
    with pytest.raises(CheckpointMissing, match=r"found steps \[\]"):
        CheckpointStore(tmp_path / "nothing").restore(template)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(CheckpointMissing, match=r"step 7 was asked for, found steps \[3\]"):
        CheckpointStore(saved).restore(template, step=7)


@pytest.mark.parametrize("arguments", [{"keep": 0}, {"keep_every": -1}])
def test_retention_arguments_are_checked(tmp_path, arguments):
    with pytest.raises(ValueError, match="allowed are keep >= 1"):
        CheckpointStore(tmp_path, **arguments)


def test_callers_mistakes_raise_before_anything_is_written(tmp_path):
    store = CheckpointStore(tmp_path / "run")
    with pytest.raises(ValueError, match="leaf count: int found"):
        store.save(1, {"count": 3}, FIELDS)
    unstorable = ManifestFields("pretrain", {}, {"lr": float("nan")})
    with pytest.raises(ValueError, match="manifest field config"):
        store.save(1, {"w": jnp.ones(2)}, unstorable)
    assert not (tmp_path / "run").exists()


def test_subtree_needs_no_template_and_returns_numpy(saved):
    expected = host_state(3)
    part = load_subtree(saved, ["target_encoder", "step"])
    assert set(part.state) == {"target_encoder", "step"}
    assert part.step == 3
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(part.state))
    assert_bit_equal(part.state["target_encoder"], expected.target_encoder)
    assert int(part.state["step"]) == 3


def test_subtree_takes_a_sharding_and_the_path_of_one_step(saved):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[5])
    part = load_subtree(saved / "3", ["encoder/kernel"], sharding=sharding)
    assert part.state["encoder"]["kernel"].sharding == sharding
    assert_bit_equal(part.state["encoder"]["kernel"], host_state(3).encoder["kernel"])


def test_subtree_names_what_there_is(saved):
    with pytest.raises(ValueError, match=r"no leaf under 'enc'; .*\['encoder', 'moments', 'step', 'target_"):
        load_subtree(saved, ["enc"])
    with pytest.raises(CheckpointMissing, match="step 9"):
        load_subtree(saved, ["encoder"], step=9)


def test_another_schema_is_refused_by_name_and_no_earlier_step_is_tried(tmp_path):
    with CheckpointStore(tmp_path) as store:
        for step in (1, 2):
            assert store.save(step, on_mesh(host_state(step), 8), FIELDS, wait=True)
    file = tmp_path / "2" / "manifest" / "data.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 7}))
    words = r"2/manifest/data.json: schema_version 7, this version reads 1; read it with the version of the package"
    with pytest.raises(CheckpointOfAnotherSchema, match=words):
        store.read_manifest()
    with pytest.raises(CheckpointOfAnotherSchema, match=words):
        store.restore(abstract(on_mesh(host_state(1), 8)))
    assert store.steps() == [1, 2], "nothing is deleted"


def test_damaged_manifest_is_reported_by_file(tmp_path):
    CheckpointStore(tmp_path).save(1, {"w": jnp.ones(2)}, FIELDS, wait=True)
    (tmp_path / "1" / "manifest" / "data.json").write_text("{")
    with pytest.raises(CheckpointDamaged, match=r"1/manifest/data.json:1:2"):
        CheckpointStore(tmp_path).read_manifest()
