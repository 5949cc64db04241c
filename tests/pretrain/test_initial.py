"""Starting from weights: which part fills which, what is refused before anything is compiled, what must not alias."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import CheckpointError, CheckpointMismatch, CheckpointMissing
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.store import CheckpointStore
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.checkpoints.weights import save_weights
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.setup.initial import choose_parts, plan_initial, start_from
from surgmotion_jax.pretrain.state import abstract_state
from tests.pretrain.fixtures import small_config

PARTS = ("encoder", "predictor", "target")
CONFIG = small_config()


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [
        (PARTS, PARTS, {"encoder": "encoder", "predictor": "predictor", "target": "target"}),
        (PARTS, ("target",), {"encoder": "target", "target": "target"}),
        (PARTS, ("encoder", "predictor"), {"encoder": "encoder", "predictor": "predictor", "target": "encoder"}),
        (("encoder",), PARTS, {"encoder": "encoder", "target": "encoder"}),
        (("encoder",), ("target",), {"encoder": "target", "target": "target"}),
        (("target",), PARTS, {"target": "target", "encoder": "target"}),
        (("predictor",), PARTS, {"predictor": "predictor"}),
        (("predictor",), ("target",), {}),
    ],
)
def test_encoder_and_target_stand_in_for_each_other(asked, there, chosen):
    assert choose_parts(asked, there) == chosen


@pytest.fixture(scope="module")
def layout():
    return MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:2]))


@pytest.fixture(scope="module")
def fresh(layout):
    """A state of random numbers laid out as a run's: nothing is compiled."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding)

    state = jax.tree.map(draw, abstract_state(CONFIG, layout))
    return state._replace(step=jax.device_put(np.zeros((), np.int32), layout.replicated))


def shifted(tree, by):
    return jax.tree.map(lambda x: np.asarray(x) + np.float32(by), tree)


@pytest.fixture(scope="module")
def converted(fresh, tmp_path_factory):
    """Converted weights: target and predictor, as transformers' models have them."""
    folder = tmp_path_factory.mktemp("weights") / "converted"
    leaves = {"params": {"predictor": shifted(fresh.params["predictor"], 1)}, "target": shifted(fresh.target, 2)}
    save_weights(folder, leaves, ManifestFields("weights", architecture(CONFIG.model), {}))
    return folder


@pytest.fixture(scope="module")
def workdir(fresh, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    host = jax.tree.map(np.asarray, fresh)
    state = host._replace(
        params=shifted(host.params, 3), opt_state=jax.tree.map(lambda x: np.asarray(x + 1), host.opt_state)
    )
    store = CheckpointStore(folder / "checkpoints")
    store.save(7, state, ManifestFields("pretrain", architecture(CONFIG.model), {}), wait=True)
    return folder


def same(got, want):
    got, want = leaves_by_path({"x": got}), leaves_by_path({"x": want})
    assert got.keys() == want.keys()
    for path, leaf in want.items():
        np.testing.assert_array_equal(np.asarray(got[path]), np.asarray(leaf), err_msg=path)


def test_from_converted_weights(converted, fresh):
    initial = plan_initial(InitConfig(str(converted)), CONFIG.model)
    assert initial.told == (
        "online encoder: a copy of the checkpoint's target encoder (none in the checkpoint)",
        "predictor: from the checkpoint",
        "target encoder: from the checkpoint",
    )
    state = start_from(initial, fresh)
    same(state.params["predictor"], shifted(fresh.params["predictor"], 1))
    same(state.target, shifted(fresh.target, 2))
    same(state.params["encoder"], state.target)
    assert int(state.step) == 0
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, fresh)


def test_parts_that_start_from_one_array_can_both_be_donated(converted, fresh):
    state = start_from(plan_initial(InitConfig(str(converted)), CONFIG.model), fresh)
    both = state.params["encoder"], state.target
    online, target = jax.jit(lambda s: jax.tree.map(lambda x: x * 2, s), donate_argnums=0)(both)
    same(target, jax.tree.map(lambda x: x * 2, shifted(fresh.target, 2)))
    same(online, target)


def test_what_was_not_asked_for_stays_as_initialised(converted, fresh):
    initial = plan_initial(InitConfig(str(converted), ("target",)), CONFIG.model)
    assert "predictor: freshly initialised (not asked for)" in initial.told
    same(start_from(initial, fresh).params["predictor"], fresh.params["predictor"])


def test_from_a_workdir_with_and_without_its_moments(workdir, fresh):
    state = start_from(plan_initial(InitConfig(str(workdir)), CONFIG.model), fresh)
    same(state.params, shifted(fresh.params, 3))
    same(state.opt_state, fresh.opt_state)
    state = start_from(plan_initial(InitConfig(str(workdir), optimizer=True), CONFIG.model), fresh)
    same(state.opt_state, jax.tree.map(lambda x: x + 1, fresh.opt_state))
    assert int(state.step) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "model.heads: 6 in the checkpoint, 3 requested"),
        ({"positions": "sincos"}, "model.positions: 'rope_tiled' in the checkpoint, 'sincos' requested"),
        ({"variant": "vit_tiny"}, "model.width: 384 in the checkpoint, 192 requested"),
        ({"predictor": dataclasses.replace(CONFIG.model.predictor, depth=3)}, "model.predictor.depth: 1 in the checkp"),
    ],
)
def test_another_architecture_is_refused_from_the_manifest_alone(converted, change, message):
    with pytest.raises(CheckpointMismatch, match=message):
        plan_initial(InitConfig(str(converted)), dataclasses.replace(CONFIG.model, **change))


def test_a_predictor_that_is_not_taken_may_differ(converted):
    model = dataclasses.replace(CONFIG.model, predictor=dataclasses.replace(CONFIG.model.predictor, depth=3))
    assert plan_initial(InitConfig(str(converted), ("target",)), model).filled.keys() == {"target", "params/encoder"}


def test_equal_models_under_other_names_are_equal(converted):
    """A variant is a name for sizes; how to compute and which mask token to use are not the weights' business."""
    sizes = {"width": 384, "depth": 2, "heads": 6, "mlp": 1536}
    predictor = dataclasses.replace(CONFIG.model.predictor, mask_index=1)
    model = dataclasses.replace(
        CONFIG.model, variant="vit_large", **sizes, predictor=predictor, dtype="bfloat16", remat="full"
    )
    assert plan_initial(InitConfig(str(converted)), model).filled


def test_moments_that_are_not_there_are_refused(converted, workdir):
    with pytest.raises(CheckpointError, match=r"converted weights have none; set --config.init.optimizer=False"):
        plan_initial(InitConfig(str(converted), optimizer=True), CONFIG.model)
    with pytest.raises(CheckpointError, match="moments belong to the encoder, predictor and target of one run"):
        plan_initial(InitConfig(str(workdir), ("encoder",), optimizer=True), CONFIG.model)


def test_nothing_of_what_is_asked_for(tmp_path, fresh):
    fields = ManifestFields("weights", architecture(CONFIG.model), {})
    save_weights(tmp_path / "w", {"target": shifted(fresh.target, 0)}, fields)
    with pytest.raises(CheckpointError, match="init.parts asks for predictor; the checkpoint holds target"):
        plan_initial(InitConfig(str(tmp_path / "w"), ("predictor",)), CONFIG.model)
    with pytest.raises(CheckpointMissing):
        plan_initial(InitConfig(str(tmp_path / "none")), CONFIG.model)


@pytest.mark.parametrize(
    ("parts", "message"),
    [((), "init.parts is empty"), (("encoders",), "init.parts is 'encoders'; .* Did you mean 'encoder'")],
)
def test_parts_are_checked(parts, message):
    with pytest.raises(ValueError, match=message):
        InitConfig("x", parts)


def test_leaves_of_another_shape_are_named(converted, fresh):
    """The manifest can agree while the state does not, if that was built for another config."""
    initial = plan_initial(InitConfig(str(converted)), CONFIG.model)
    other = fresh._replace(target={**fresh.target, "norm": {"scale": jnp.zeros(3), "bias": jnp.zeros(3)}})
    with pytest.raises(CheckpointMismatch, match=r"target/norm/bias: float32\[384\] in the checkpoint, float32\[3\]"):
        start_from(initial, other)
