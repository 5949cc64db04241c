"""A sweep trains every head as if it were alone, on one device or many, in any groups."""

from __future__ import annotations

import copy
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from surgmotion_jax.evaluate.config import Grid
from surgmotion_jax.evaluate.heads import predictors, sweep_program, targets
from surgmotion_jax.evaluate.heads import sweep as sweep_module
from surgmotion_jax.evaluate.heads.clock import SweepClock, features_of, quick
from surgmotion_jax.evaluate.heads.networks import LinearConfig, make_head
from surgmotion_jax.evaluate.heads.optimizer import cosine
from surgmotion_jax.evaluate.heads.predictors import HeadPredictor
from surgmotion_jax.evaluate.heads.sweep import Batch, Sweep, SweepSettings
from surgmotion_jax.evaluate.heads.sweep_program import HeadState
from surgmotion_jax.models import attention, config, linear, probe, transformer
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, make_mesh
from tests.evaluate.head_speed import TorchLoop, params_of, timed_in_turns

CLASSES = ("cut", "clip", "clean")
TWO_BY_TWO = Grid((1e-2, 1e-3), (0.01, 0.8))
TWENTY = Grid((1e-2, 5e-3, 3e-3, 2e-3, 1e-3), (0.0, 0.1, 0.2, 0.3))
EIGHT = Grid((1e-2, 1e-3), (0.0, 0.1, 0.2, 0.3))
ATTENTIVE = ProbeConfig(width=12, outputs=3, depth=2, heads=2, mlp=16)


def devices(count):
    return MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:count]))


def batch_of(rows=8, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    features, label = rng.normal(size=(rows, 5, 12)).astype(dtype), rng.integers(0, 3, rows)
    features[:, 0] += label[:, None]
    return Batch(features, label, np.ones(rows, bool), rng.random((rows, 5)) < 0.8)


def objective():
    return targets.classification(np.repeat([0, 1, 2], [5, 3, 2]), CLASSES)


def bare_sweep(count=1, grid=TWO_BY_TWO, **settings):
    head = make_head("linear", LinearConfig(12, 3))
    return Sweep(head, objective(), SweepSettings(20, grid, **{"strategy": "vmap"} | settings), devices(count))


@functools.cache
def linear_sweep(count=1, grid=TWO_BY_TWO, **settings):
    """Prepared, and shared by the tests: a sweep holds programs, no heads."""
    sweep = bare_sweep(count, grid, **settings)
    return sweep, sweep.prepare(batch_of())


def trained(sweep, steps=4, batch=batch_of):
    losses = []
    groups = sweep.train(sweep.init(), (batch(seed=i) for i in range(steps)), lambda n, loss_H: losses.append(loss_H))
    return sweep.stacked(groups), np.stack(losses), groups


def paths(tree):
    return {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in jax.tree.leaves_with_path(tree)}


def without_key_biases(params):
    """Adding one number to all keys changes no attention: the gradient is rounding noise, which Adam makes large."""
    leaves = {k: np.array(v) for k, v in paths(params).items()}
    leaves["cross/kv/bias"][..., 0, :, :] = 0
    if "trunk/blocks/attn/qkv/bias" in leaves:
        leaves["trunk/blocks/attn/qkv/bias"][..., 1, :, :] = 0
    return leaves


# ---- a head in a sweep is the head alone ----


class Float64Numpy:
    """`jax.numpy` in which float32 means float64: the models compute in float32 by design."""

    float32 = jnp.float64

    def __getattr__(self, name):
        return getattr(jnp, name)


@pytest.fixture
def float64(monkeypatch):
    for module in (attention, linear, probe, transformer):
        monkeypatch.setattr(module, "jnp", Float64Numpy())
    monkeypatch.setattr(config, "DTYPES", ("float64",))
    with jax.enable_x64(True):
        yield


def alone(head, goal, params, steps, lr, wd, batches):
    """One head, trained with optax in a plain loop."""
    optimizer = optax.inject_hyperparams(optax.adamw)(learning_rate=0.0, weight_decay=0.0)

    @jax.jit
    def step(params, state, batch, rate, decay):
        def loss_of(p):
            return goal.loss(head.apply(p, batch.features, batch.valid), batch.target, batch.mask)

        loss, grads = jax.value_and_grad(loss_of)(params)
        state = state._replace(hyperparams={"learning_rate": rate, "weight_decay": decay})
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    runs, fresh = [], jax.jit(optimizer.init)
    for rate, decay in zip(lr, wd, strict=True):
        p, state, losses = params, fresh(params), []
        for i, batch in enumerate(batches):
            now = jnp.float64(rate * (1 + np.cos(np.pi * i / steps)) / 2)
            p, state, loss = step(p, state, batch, now, jnp.float64(decay))
            losses.append(float(loss))
        runs.append((p, losses))
    return runs


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_twenty_steps_equal_heads_trained_one_by_one_in_float64(float64, depth):
    head = quick(make_head("attentive", dataclasses.replace(ATTENTIVE, dtype="float64", depth=depth)))
    goal, batches = objective(), [batch_of(seed=i, dtype=np.float64) for i in range(20)]
    sweep = Sweep(head, goal, SweepSettings(20, TWO_BY_TWO, strategy="vmap"), devices(1))
    assert sweep.prepare(batches[0]).group == 4
    losses = []
    start = sweep.init()
    params = jax.tree.map(jnp.asarray, params_of(sweep, start, 0))
    groups = sweep.train(start, batches, lambda n, loss_H: losses.append(loss_H))
    assert losses[0].dtype == np.float64
    assert len(set(np.round(losses[-1], 6))) == 4, "the heads must differ"
    single = alone(head, goal, params, 20, *np.array(sweep.points).T, batches)
    np.testing.assert_allclose(np.stack(losses).T, [losses for _, losses in single], rtol=0, atol=1e-8)
    for number, (alone_params, _) in enumerate(single):
        wanted = without_key_biases(alone_params)
        for name, leaf in without_key_biases(params_of(sweep, groups, number)).items():
            np.testing.assert_allclose(leaf, wanted[name], rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.slow
def test_first_gradients_equal_in_float32():
    """After one update the first moment is a tenth of the gradient."""
    head, moments = quick(make_head("attentive", dataclasses.replace(ATTENTIVE, depth=1))), {}
    for strategy, group in (("vmap", 4), ("loop", 1)):
        settings = SweepSettings(20, TWO_BY_TWO, strategy=strategy)
        sweep = Sweep(head, objective(), settings, devices(1))
        assert sweep.prepare(batch_of()).group == group
        own = jax.tree.map(np.asarray, jax.vmap(head.init)(jax.random.split(jax.random.key(0), 4)))
        groups, _ = sweep.step(sweep.grouped(sweep.stacked(sweep.init())._replace(params=own)), batch_of())
        moments[strategy] = paths(sweep.stacked(groups).opt_state[0][0].mu)
    largest = {name: np.abs(g).max() for name, g in moments["loop"].items()}
    assert min(largest[n] for n in largest if not n.endswith("bias")) > 0, "every kernel must have a gradient"
    for name, gradient in moments["vmap"].items():
        atol = 1e-5 * max(largest.values())
        np.testing.assert_allclose(gradient, moments["loop"][name], rtol=0, atol=atol, err_msg=name)
        assert np.ptp(gradient, axis=0).max() > 0, "heads with parameters of their own have gradients of their own"


def test_heads_begin_with_the_same_parameters_which_the_seed_decides():
    one, _ = linear_sweep()
    other = copy.copy(one)
    other.settings = dataclasses.replace(one.settings, seed=1)
    first, second = (s.stacked(s.init()).params["kernel"] for s in (one, other))
    assert np.ptp(first, axis=0).max() == 0
    assert np.abs(first - second).max() > 0


def test_the_rate_falls_by_a_cosine_to_zero():
    rates = [float(cosine(jnp.int32(s), 10, jnp.float32(0.5))) for s in (0, 5, 10, 12)]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0, 0], atol=1e-7)


def test_the_default_grid_is_the_released_one():
    assert len(Grid().points) == 20
    assert Grid().points[0] == (5e-3, 0.01)
    assert Grid().points[5] == (3e-3, 0.1)


# ---- rows, groups, devices ----


def test_masked_rows_have_no_influence():
    def filled(seed):
        whole, other = batch_of(seed=seed), batch_of(seed=50)
        keep = np.arange(8) < 6
        features = np.where(keep[:, None, None], whole.features, other.features)
        return Batch(features, np.where(keep, whole.target, 99), keep, whole.valid)

    def emptied(seed):
        batch = filled(seed)
        return batch._replace(features=batch.features * batch.mask[:, None, None])

    whole, some, none = (trained(linear_sweep()[0], batch=batch)[1] for batch in (batch_of, filled, emptied))
    np.testing.assert_array_equal(some, none)
    assert np.abs(whole - some).max() > 1e-4


@pytest.mark.parametrize(
    ("grid", "count", "strategy", "placement", "share", "groups"),
    [
        (EIGHT, 8, "vmap", "heads", 1, 1),
        (TWENTY, 8, "vmap", "heads", 3, 1),
        (TWENTY, 8, "loop", "heads", 1, 3),
        (TWO_BY_TWO, 8, "vmap", "rows", 4, 1),
        (Grid((1e-2, 1e-3), (0.01,)), 3, "vmap", "heads", 1, 1),  # 8 rows do not divide by 3 either
    ],
    ids=["even", "twenty", "twenty-loop", "rows", "two-on-three"],
)
def test_many_devices_equal_one(grid, count, strategy, placement, share, groups):
    """Heads are shared out, with copies where they do not divide; of the copies nothing is seen."""
    (one, _), (many, plan) = linear_sweep(1, grid), linear_sweep(count, grid, strategy=strategy)
    (wanted, wanted_losses, _), (found, losses, state) = trained(one), trained(many)
    assert (plan.placement, plan.group, plan.groups, len(state)) == (placement, share, groups, groups)
    kernel = state[0].params["kernel"]
    assert len(kernel.sharding.device_set) == count
    assert kernel.addressable_shards[0].data.shape[0] == share
    assert losses.shape == (4, len(grid.points))
    np.testing.assert_allclose(losses, wanted_losses, rtol=0, atol=1e-6)
    for name, leaf in paths(found).items():
        np.testing.assert_allclose(leaf, paths(wanted)[name], rtol=0, atol=1e-6, err_msg=name)
    for rows in (8, 5):
        batch = batch_of(rows)
        outputs = many.outputs(state, batch.features, batch.valid)
        alone = one.outputs(one.grouped(found), batch.features, batch.valid)
        np.testing.assert_allclose(outputs, alone, rtol=0, atol=1e-6)


def test_devices_that_share_out_heads_do_not_repeat_them():
    """20 heads on 8 devices: each works on 3, so none needs memory for more."""
    (_, one), (_, eight) = linear_sweep(1, TWENTY), linear_sweep(8, TWENTY)
    assert (len(eight.places), eight.together, sorted(set(eight.places))) == (24, 24, list(range(20)))
    assert eight.state_bytes * 20 == one.state_bytes * 3
    assert eight.working_bytes < 0.5 * one.working_bytes


def test_a_state_saved_on_one_device_goes_on_on_eight():
    whole, losses, _ = trained(linear_sweep(1, TWENTY)[0], steps=4)
    half, _, _ = trained(linear_sweep(1, TWENTY)[0], steps=2)
    eight, _ = linear_sweep(8, TWENTY)
    later = []
    batches = [batch_of(seed=i) for i in (2, 3)]
    groups = eight.train(eight.grouped(half), batches, lambda n, loss_H: later.append(loss_H))
    np.testing.assert_allclose(later, losses[2:], rtol=0, atol=1e-6)
    found = eight.stacked(groups)
    assert len(found.step) == 20
    for name, leaf in paths(found).items():
        np.testing.assert_allclose(leaf, paths(whole)[name], rtol=0, atol=1e-6, err_msg=name)


def test_rows_are_shared_out_where_a_device_has_no_room_for_a_head_with_all_of_them():
    work = types.SimpleNamespace
    mask, config = work(shape=(16,)), work(attention="xla")
    made = functools.partial(work, shapes=work(mask=mask), layout=work(batch_parts=8), head=work(config=config))
    heads = [("heads", 3), ("heads", 1)]
    assert sweep_program.groupings(made(heads=20)) == [*heads, ("rows", 5), ("rows", 4), ("rows", 2), ("rows", 1)]
    assert sweep_program.groupings(made(heads=7)) == [("rows", 7), ("rows", 1)]
    config.attention = "splash"  # a kernel that the compiler cannot cut by rows
    assert sweep_program.groupings(made(heads=20)) == heads
    assert sweep_program.groupings(made(heads=7)) == [("heads", 1)]
    mask.shape, config.attention = (4,), "xla"
    assert sweep_program.groupings(made(heads=20)) == heads
    assert sweep_program.groupings(made(heads=7)) == [("heads", 1)]


def test_a_state_saved_in_one_grouping_goes_on_in_another():
    whole, losses, _ = trained(linear_sweep()[0], steps=4)
    half, _, _ = trained(linear_sweep()[0], steps=2)
    loop, plan = linear_sweep(strategy="loop")
    assert plan.group == 1
    groups = loop.grouped(jax.tree.map(np.asarray, half))
    assert len(groups) == 4
    later = []
    groups = loop.train(groups, [batch_of(seed=i) for i in (2, 3)], lambda n, loss_H: later.append((n, loss_H)))
    assert [n for n, _ in later] == [3, 4]
    np.testing.assert_allclose([loss for _, loss in later], losses[2:], rtol=0, atol=1e-6)
    for name, leaf in paths(loop.stacked(groups)).items():
        np.testing.assert_allclose(leaf, paths(whole)[name], rtol=0, atol=1e-6, err_msg=name)


# ---- memory and speed ----


def test_groups_are_as_large_as_the_memory_allows():
    (_, whole), (_, alone) = linear_sweep(), linear_sweep(strategy="loop")
    assert (whole.group, alone.group) == (4, 1)
    counters = 2 * 4  # the head's and its optimiser's
    assert whole.state_bytes == alone.state_bytes == 4 * (3 * (12 * 3 + 3) * 4 + counters)
    assert whole.batch_bytes == 8 * 5 * 12 * 4 + 8 * 4 + 8 + 8 * 5
    assert whole.working_bytes > alone.working_bytes
    between = bare_sweep(budget=whole.total_bytes - 1).prepare(batch_of())
    assert between.group == 2
    assert between.total_bytes <= between.budget
    refused = r"4 heads, 1 at a time, need .* a device, but .* are there: features .* Lower sweep.batch, give fewer "
    fields = r"sweep.learning_rates or sweep.weight_decays, .*probe.remat=full.*raise sweep.memory_gb"
    with pytest.raises(ValueError, match=refused + fields):
        bare_sweep(strategy="loop", budget=alone.total_bytes - 1).prepare(batch_of())


def test_the_plan_says_what_it_will_do():
    plan = sweep_program.Plan(20, 1, "heads", 5, 2**30, 2**31, 3 * 2**30, 2**33, sweep_program.Timing(1.0, 4.0))
    assert plan.head_bytes == 2**31 // 4 + 3 * 2**30
    text = plan.text()
    assert "20 heads, 5 at a time; devices: 5, sharing out heads, 1 a device" in text
    assert "6.00 GiB of 8.00 GiB = features 1.00 GiB + parameters and moments 2.00 GiB" in text
    assert "vmap 1 s, loop 4 s (0.25)" in text
    filled = dataclasses.replace(plan, group=3, devices=8).text()
    wanted = "20 heads, 24 at a time, 4 copies filling up the last places; devices: 8, sharing out heads, 3 a device"
    assert wanted in filled
    alone = dataclasses.replace(plan, placement="nothing", devices=1).text()
    assert "20 heads, one after the other; devices: 1, sharing out nothing\n" in alone


def test_what_is_free_on_the_device_is_the_limit_where_none_is_given(monkeypatch):
    needed = linear_sweep()[1].total_bytes
    monkeypatch.setattr(sweep_module, "free_bytes", lambda device: needed - 1)
    assert bare_sweep().prepare(batch_of()).budget == needed - 1
    assert bare_sweep(budget=2 * needed).prepare(batch_of()).budget == 2 * needed


@pytest.mark.parametrize(("most", "group"), [(2, 2), (0, None)])
def test_a_compiler_that_refuses_a_large_group_is_given_a_smaller_one(monkeypatch, most, group):
    compiled = sweep_program.compile_group

    def compile_group(work, placement, group):
        if group > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm")
        return compiled(work, placement, group)

    monkeypatch.setattr(sweep_program, "compile_group", compile_group)
    if group:
        assert bare_sweep().prepare(batch_of()).group == group
        return
    with pytest.raises(ValueError, match=r"4 heads do not fit the devices \(RESOURCE_EXHAUSTED.*Lower sweep.batch"):
        bare_sweep().prepare(batch_of())


def test_a_tenth_of_a_device_is_kept_free():
    def device(stats):
        return types.SimpleNamespace(memory_stats=lambda: stats)

    assert sweep_program.free_bytes(device({"bytes_limit": 1000, "bytes_in_use": 300})) == 600
    assert sweep_program.free_bytes(device({"bytes_limit": 1000, "bytes_in_use": 950})) == 1
    assert sweep_program.free_bytes(device(None)) == 0


@pytest.mark.parametrize(("vmap_s", "loop_s", "group"), [(1.0, 2.0, 4), (2.0, 1.0, 1)])
def test_auto_takes_the_faster(monkeypatch, vmap_s, loop_s, group):
    def clock(work, program, calls, batch):
        return lambda: vmap_s if program.plan.group > 1 else loop_s

    monkeypatch.setattr(sweep_program, "_clock", clock)
    vmap, loop = (sweep._ready() for sweep in (linear_sweep()[0], linear_sweep(strategy="loop")[0]))
    work = types.SimpleNamespace(heads=4)
    plan = sweep_program.faster(work, vmap, loop, batch_of()).plan
    assert (plan.group, plan.timing) == (group, (vmap_s, loop_s))


def test_measuring_leaves_no_trace():
    auto, plan = linear_sweep(strategy="auto")
    assert min(plan.timing) > 0
    assert (plan.group == 4) == (plan.timing.vmap_s <= plan.timing.loop_s)
    (found, losses, _), (wanted, wanted_losses, _) = trained(auto), trained(linear_sweep()[0])
    assert list(found.step) == list(wanted.step) == [4] * 4
    np.testing.assert_allclose(losses, wanted_losses, rtol=0, atol=1e-6)


def choice_against_loop(rows, tokens, width, layers, rounds):
    """(what auto chose, quartiles of that choice, of the loop and of vmap, each built anew) for attentive heads."""
    config, batch = ProbeConfig(width, 3, depth=layers, heads=3), features_of(rows, tokens, width)
    chosen = "loop" if SweepClock(config, EIGHT, batch, "auto").group == 1 else "vmap"
    clocks = {
        name: SweepClock(config, EIGHT, batch, strategy)
        for name, strategy in (("chosen", chosen), ("loop", "loop"), ("vmap", "vmap"))
    }
    for name, clock in clocks.items():
        clock()  # the first step is slower
        assert clock.group == (1 if name == "loop" or (name, chosen) == ("chosen", "loop") else len(EIGHT.points))
    return chosen, timed_in_turns(clocks, rounds)


@pytest.mark.parametrize("count", [1, 8])
def test_auto_measures_groups_with_copies_too(count):
    _, plan = linear_sweep(count, TWENTY, strategy="auto")
    assert min(plan.timing) > 0
    ways = {1: {(20, 1), (1, 20)}, 8: {(3, 1), (1, 3)}}
    assert (plan.group, plan.groups) in ways[count]


@pytest.mark.oracle
def test_a_loop_of_pytorch_trains_the_same_heads():
    """Three steps: rates, decays and schedules of eight heads included."""
    config, batch = ProbeConfig(24, 3, depth=3, heads=2, norm_eps=1e-6), features_of(4, 6, 24)
    ours = SweepClock(config, EIGHT, batch, "vmap")
    peer = TorchLoop(config, params_of(ours.sweep, ours.groups, 0), EIGHT, batch)
    for _ in range(3):
        ours(), peer()
        np.testing.assert_allclose(ours.losses, peer.losses, rtol=0, atol=1e-4)
    assert np.ptp(ours.losses) > 1e-2, "the heads must have become different, or this test shows little"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 16, 48, 2), (4, 64, 96, 2), (2, 196, 192, 4)])
def test_the_measured_choice_is_not_slower_than_the_loop(shape, capsys):
    """At most 5 %, timed again on programs of their own. The ratio of plain vmap to the loop is printed too."""
    chosen, quartiles = choice_against_loop(*shape, rounds=21)
    median = {name: float(of[1]) for name, of in quartiles.items()}
    spans = ", ".join(f"{name} {1e3 * m:.2f} ({1e3 * a:.2f} to {1e3 * b:.2f})" for name, (a, m, b) in quartiles.items())
    with capsys.disabled():
        print("\n{} x {} tokens x {}, {} layers, 8 heads, auto chose {}".format(*shape, chosen))
        print(f"ms a step, median (quartiles): {spans}; vmap / loop {median['vmap'] / median['loop']:.2f}")
    assert median["chosen"] <= 1.05 * median["loop"]


# ---- what predicts ----


def test_a_predictor_keeps_its_parameters_on_the_device():
    trainer, _ = linear_sweep()
    params, batch = trained(trainer)[0].params, batch_of()
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    predictor = HeadPredictor(trainer.head, trainer.objective, params, ["a", "b", "c", "d"])
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(predictor._params))
    wanted = trainer.objective.predict(trainer.outputs(trainer.grouped(trained(trainer)[0]), batch.features))
    np.testing.assert_allclose(predictor(batch.features), wanted, rtol=0, atol=1e-6)


def test_many_tokens_are_scored_a_few_moments_at_a_time(monkeypatch):
    head = quick(make_head("attentive", ATTENTIVE))
    params, rows = jax.vmap(head.init)(jax.random.split(jax.random.key(0), 2)), batch_of(5).features
    whole = HeadPredictor(head, objective(), params, ["a", "b"])(rows)
    monkeypatch.setattr(predictors, "MOST_WEIGHTS", 2 * ATTENTIVE.heads * 5**2)
    assert predictors.rows_at_a_time(head, rows.shape) == 2
    np.testing.assert_allclose(HeadPredictor(head, objective(), params, ["a", "b"])(rows), whole, rtol=0, atol=1e-6)
    assert whole.shape[:2] == (2, 5)
    monkeypatch.undo()
    large = make_head("attentive", ProbeConfig(1024, 3))
    assert predictors.rows_at_a_time(large, (8, 8192, 1024)) == 4
    assert predictors.rows_at_a_time(large, (8, 2048, 1024)) >= 8


# ---- what does not fit ----


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid((1e-3, 1e-3)), r"sweep.learning_rates is \(0.001, 0.001\); give one or more distinct"),
        (lambda: Grid((0.0,)), r"at a rate of 0 nothing is learnt"),
        (lambda: Grid(weight_decays=(-0.1,)), r"sweep.weight_decays is \(-0.1,\)"),
        (lambda: SweepSettings(0), r"sweep.steps is 0; it must be at least 1"),
        (lambda: SweepSettings(1, strategy="map"), r"sweep.strategy is 'map'.* Did you mean 'vmap'"),
        (lambda: SweepSettings(1, budget=-1), r"sweep.memory_gb is -1e-09"),
        (lambda: bare_sweep().init(), r"call prepare with a batch first"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_batches_and_states_that_do_not_fit_are_refused():
    sweep, _ = linear_sweep()
    with pytest.raises(
        ValueError, match=r"head 'linear' gives \(8, 3\).*'regression' with a mask \(8,\) takes \(8, 1\)"
    ):
        Sweep(sweep.head, targets.regression([1.0, 2.0]), sweep.settings, sweep.layout).prepare(batch_of())
    groups = sweep.init()
    with pytest.raises(ValueError, match=r"fill the last batch up to the same size"):
        sweep.step(groups, batch_of(rows=7))
    state = HeadState({}, None, np.zeros(3))
    with pytest.raises(ValueError, match=r"the state holds 3 heads, the grid has 4"):
        sweep.grouped(state)
