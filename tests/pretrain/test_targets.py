"""Where targets come from: a moving average, a frozen teacher, the encoder itself. What moves, what does not."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from surgmotion_jax.checkpoints.errors import CheckpointError, CheckpointMissing
from surgmotion_jax.checkpoints.manifest import ManifestFields
from surgmotion_jax.checkpoints.tree import leaves_by_path
from surgmotion_jax.checkpoints.weights import save_weights
from surgmotion_jax.models.architecture import architecture
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh, to_global
from surgmotion_jax.parallel.topology import describe
from surgmotion_jax.pretrain.config import InitConfig
from surgmotion_jax.pretrain.plan.plan import plan
from surgmotion_jax.pretrain.sample.masks import mask_programs
from surgmotion_jax.pretrain.setup.initial import plan_initial, start_from
from surgmotion_jax.pretrain.setup.placement import demand_of
from surgmotion_jax.pretrain.setup.summary import summarise
from surgmotion_jax.pretrain.setup.teacher import plan_teacher, taught_by, with_teacher
from surgmotion_jax.pretrain.state import abstract_state, create_state
from surgmotion_jax.pretrain.step import abstract_batch, compile_train_step, train_step
from surgmotion_jax.runs import planning
from tests.pretrain.fixtures import NANO, random_batch, small_config, train

FROZEN = {"objective.targets": "frozen", "objective.teacher": "named", "optim.ema": 1.0, "optim.final_ema": 1.0}
ONLINE = {"objective.targets": "online", "optim.ema": 0.0, "optim.final_ema": 0.0}
SIGREG = {**ONLINE, "loss.sigreg.weight": 0.02, "loss.sigreg.slices": 32}
WIDE = dataclasses.replace(small_config(**NANO).model, width=72, heads=6, mlp=80, depth=2)


def layout_of(*shape):
    return MeshLayout(make_mesh(ParallelConfig(*shape), jax.devices()[: int(np.prod(shape))]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A teacher of other width and depth than the student, as converted weights."""
    folder = tmp_path_factory.mktemp("teacher") / "converted"
    shapes, rng = jax.eval_shape(lambda: backbone_of(WIDE).init(jax.random.key(7))), np.random.default_rng(7)
    drawn = jax.tree.map(lambda leaf: rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype), shapes)
    save_weights(folder, {"target": drawn}, ManifestFields("weights", architecture(WIDE), {}))
    return folder


@pytest.fixture(scope="module")
def salt(weights):
    return with_teacher(small_config(**NANO, **FROZEN | {"objective.teacher": str(weights)}))


def taught(config, layout):
    return start_from(plan_teacher(config), create_state(config, layout))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective.targets": "frozen"},
            r"targets is 'frozen', but objective.teacher is empty; name a pretraining wor",
        ),
        ({"objective.teacher": "w"}, r"teacher is 'w', but objective.targets is 'ema', which asks no teacher"),
        (
            FROZEN | {"optim.ema": 0.99},
            r"'frozen', but optim.ema and optim.final_ema are 0.99 and 1: a frozen teacher f",
        ),
        (
            ONLINE | {"optim.final_ema": 0.9},
            r"'online', but optim.ema .* 0 and 0.9: the encoder itself.*ema=0 --config",
        ),
        (FROZEN | {"objective.stop_gradient": False}, r"'frozen', but objective.stop_gradient is False"),
        (
            ONLINE | {"objective.kind": "pixel", "loss.affinity.weight": 0.0, "loss.diversity.weight": 0.0},
            r"kind is 'pixel', but objective.targets is 'online'",
        ),
        ({"objective.targets": "emma"}, r"objective.targets is 'emma'; it must be one of ema, frozen, online"),
        (
            {"loss.sigreg.weight": 0.1, "loss.sigreg.of": "targets"},
            r"loss.sigreg.of is 'targets', but objective.stop_g",
        ),
    ],
)
def test_settings_that_contradict_each_other_get_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        small_config(**changes)


def test_a_teacher_must_cut_clips_alike_and_be_there(tmp_path):
    config = small_config(**FROZEN | {"objective.teacher": str(tmp_path / "none")})
    with pytest.raises(CheckpointMissing, match="none"):
        with_teacher(config)
    with pytest.raises(ValueError, match=r"objective.teacher has model.patch 8, this config 16.*model.patch=8"):
        taught_by(config, dataclasses.replace(config.model, patch=8))
    predictor = {"params": {"predictor": {"x": np.zeros(2, np.float32)}}}
    save_weights(tmp_path / "w", predictor, ManifestFields("weights", architecture(config.model), {}))
    with pytest.raises(CheckpointError, match="objective.teacher holds no encoder"):
        plan_teacher(
            dataclasses.replace(config, objective=dataclasses.replace(config.objective, teacher=str(tmp_path / "w")))
        )


def test_the_architecture_comes_from_the_weights(salt):
    assert salt.target_model.encoder.width == 72
    assert salt.model.target_width == 72, "the predictor predicts the teacher's features"
    assert salt.model.encoder.width == 48
    assert with_teacher(salt) == salt, "a second look finds the same"
    plain = small_config(**NANO)
    assert with_teacher(plain) is plain


def test_the_step_hands_the_teacher_on_as_it_is(salt):
    """In the program, before any compiler: what comes out is what went in, not a value computed from it."""
    layout = layout_of(1, 1, 1)
    state, batch = abstract_state(salt, layout), abstract_batch(salt, layout, 8)
    program = mask_programs(salt.mask, salt.grid)[0]
    run = partial(train_step, config=salt, program=program, layout=layout)
    traced = jax.make_jaxpr(lambda *given: run(*given)[0])(state, batch).jaxpr
    paths = list(leaves_by_path(state))
    handed_on = {path for path, a, b in zip(paths, traced.invars, traced.outvars, strict=False) if a is b}
    assert handed_on == {path for path in paths if path.startswith("teacher/")} != set()


@pytest.mark.slow
def test_a_frozen_teacher_teaches_and_does_not_move(salt):
    layout = layout_of(1, 1, 1)
    state = taught(salt, layout)
    before = {path: np.asarray(leaf) for path, leaf in leaves_by_path(state).items()}
    assert not leaves_by_path(state.target), "no average is kept"
    step = compile_train_step(salt, mask_programs(salt.mask, salt.grid)[0], layout)
    losses = []
    for _ in range(3):
        state, metrics = step(state, random_batch(salt, 8))
        losses.append(float(metrics["loss/total"]))
    assert losses[2] < losses[0]
    assert "ema/distance" not in metrics
    after = leaves_by_path(state)
    for path, leaf in before.items():
        same = leaf.tobytes() == np.asarray(after[path]).tobytes()
        assert same == path.startswith("teacher/") or path.endswith("mask_tokens"), path


@pytest.mark.slow
def test_the_first_loss_without_an_average_is_the_same_and_the_next_is_not():
    average, online = (
        train(small_config(**NANO, **more)) for more in ({"optim.lr": 1e-2}, ONLINE | {"optim.lr": 1e-2})
    )
    assert online[0]["loss/total"] == average[0]["loss/total"]
    assert online[1]["loss/total"] != average[1]["loss/total"]


def test_state_and_plan_hold_a_teacher_without_optimiser_state(salt):
    state = abstract_state(salt, layout_of(1, 1, 1))
    weights = sum(x.size for x in jax.tree.leaves(state.teacher))
    trained = sum(x.size for x in jax.tree.leaves(state.params))
    planned = plan(salt, describe("gpu:h100x1"))
    assert planned.memory.teacher == 4 * weights
    assert planned.memory.target == 0
    assert planned.memory.optimizer == pytest.approx(8 * trained, rel=0.01)
    told = dict(planning.lines(planned))
    assert "frozen, so without gradients or a state of the optimiser" in told["teacher"]
    assert "EMA" not in told
    assert demand_of(salt).state_bytes > 16 * trained


def test_the_banner_names_the_source(salt):
    layout = layout_of(1, 1, 1)
    told = summarise(salt, layout, abstract_state(salt, layout), mask_programs(salt.mask, salt.grid))
    assert "2 x 72" in told["teacher"]
    assert "targets from the frozen teacher, no EMA" in told["schedule"]
    assert "frozen teacher" in told["work"]


def test_a_run_without_an_average_starts_from_weights(weights):
    initial = plan_initial(InitConfig(str(weights)), WIDE, averages=False)
    assert initial.filled == {"params/encoder": "target"}
    assert initial.told[0].startswith("online encoder: a copy of the checkpoint's target encoder")
    assert not any(line.startswith("target") for line in initial.told)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["salt", "sigreg", "lejepa", "late"])
def test_sharded_equals_single_for_every_arm(arm, salt):
    late = {
        "saliency.kind": "normal_flow",
        "loss.motion.reduce": "count",
        "loss.motion.dense_norm": "none",
        "loss.relation.weight": 0.1,
        "loss.diversity.over": "clip",
        "loss.covariance.weight": 0.05,
    }
    lejepa = SIGREG | {"objective.stop_gradient": False, "loss.sigreg.of": "targets"}
    config = salt if arm == "salt" else small_config(**NANO, **{"sigreg": SIGREG, "lejepa": lejepa, "late": late}[arm])
    losses = []
    for layout in (layout_of(1, 1, 1), layout_of(2, 2, 2)):
        state = taught(config, layout) if arm == "salt" else create_state(config, layout)
        step = compile_train_step(config, mask_programs(config.mask, config.grid)[0], layout)
        losses.append([])
        for seed in range(3):
            state, metrics = step(state, to_global(layout, random_batch(config, 8, seed), 8))
            losses[-1].append(float(metrics["loss/total"]))
    assert len({round(x, 4) for x in losses[0]}) == 3, "the losses must move"
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
