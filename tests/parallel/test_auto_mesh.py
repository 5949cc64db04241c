"""The automatic mesh and its table; the order of devices in a mesh of several slices and hosts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from surgmotion_jax.parallel.auto_mesh import STATE_SHARE, Demand, choose_mesh, device_memory, slice_count
from surgmotion_jax.parallel.config import ParallelConfig
from surgmotion_jax.parallel.mesh import MeshLayout, arrange, make_mesh, mesh_shape
from surgmotion_jax.pretrain.setup.placement import demand_of, place
from surgmotion_jax.pretrain.setup.preflight import check
from surgmotion_jax.pretrain.setup.summary import bytes_per_device
from tests.pretrain.fixtures import small_config

GB = 10**9


@dataclass(frozen=True)
class Device:
    """A device as far as meshes look at it."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "cpu"
    device_kind: str = "fake"


def devices(slices, hosts, per_host):
    """Devices of slices with so many hosts each, numbered through."""
    return [
        Device((s * hosts + h) * per_host + d, s * hosts + h, s)
        for s in range(slices)
        for h in range(hosts)
        for d in range(per_host)
    ]


def demand(state, batch):
    return Demand(state, batch, fsdp_dims=1024, tensor_dims=4, narrowest=1024)


def sizes(wanted, count, slices=1, memory=16 * GB):
    mesh, _ = choose_mesh(wanted, count, slices, memory)
    assert mesh.mesh == "given"
    assert mesh_shape(mesh, count) == (mesh.data, mesh.fsdp, mesh.tensor)
    return mesh.data, mesh.fsdp, mesh.tensor


@pytest.mark.parametrize(
    ("state", "batch", "count", "slices", "want"),
    [
        (GB // 2, 256, 16, 1, (16, 1, 1)),  # quick to update as it is
        (3 * GB, 256, 16, 1, (2, 8, 1)),  # 3 / 8 GB is under half a GB, 3 / 4 is not
        (20 * GB, 256, 64, 1, (4, 16, 1)),  # never thinner than for a quick update, and never over 16 for that alone
        (200 * GB, 256, 64, 1, (2, 32, 1)),  # 200 / 32 GB is under 8 GB: what memory asks for
        (20 * GB, 256, 32, 4, (4, 8, 1)),  # in slices of 8: slices stay on data
        (100 * GB, 256, 32, 4, (2, 16, 1)),  # no slice of 8 holds it: fsdp reaches over slices
        (60 * GB, 256, 32, 4, (4, 8, 1)),
        (GB // 2, 8, 16, 1, (8, 1, 2)),  # 8 clips for 16 devices: pairs share a clip
        (1 * GB, 8, 1, 1, (1, 1, 1)),
        (10_000 * GB, 256, 16, 1, (1, 16, 1)),  # too large for any: split as far as it goes
    ],
)
def test_choice(state, batch, count, slices, want):
    assert sizes(demand(state, batch), count, slices) == want


def test_unknown_memory_counts_as_enough():
    mesh, table = choose_mesh(demand(500 * GB, 64), 8, 1, None)
    assert (mesh.data, mesh.fsdp, mesh.tensor) == (8, 1, 1)
    assert "unknown" in table[1].why


def test_every_choice_divides_and_stays_in_its_share_where_one_can():
    rng = np.random.default_rng(0)
    chosen = set()
    for _ in range(300):
        slices, per_slice = int(rng.choice([1, 2, 4])), int(rng.choice([2, 4, 8, 12]))
        count, heads = slices * per_slice, int(rng.choice([1, 3, 4, 16]))
        batch = int(rng.choice([1, 2, count // 2, count, 3 * count]))
        wanted = Demand(int(rng.integers(1, 400)) * GB, batch, int(rng.choice([2, 192])), heads, narrowest=192)
        if not any(fits(wanted, count, 1, tensor) for tensor in range(1, count + 1)):
            continue
        data, fsdp, tensor = sizes(wanted, count, slices)
        chosen.add((fsdp > 1, tensor > 1, data % slices == 0))
        assert data * fsdp * tensor == count
        assert wanted.batch % (data * fsdp) == 0
        assert wanted.fsdp_dims % fsdp == 0
        assert wanted.tensor_dims % tensor == 0
        held = wanted.state_bytes / (fsdp * tensor)
        most = max(f * t for f in range(1, count + 1) for t in range(1, count + 1) if fits(wanted, count, f, t))
        assert held <= STATE_SHARE * 16 * GB or fsdp * tensor == most
    assert len(chosen) > 4, "the draw must reach several kinds of mesh"


def fits(wanted, count, fsdp, tensor):
    return (
        count % (fsdp * tensor) == 0
        and wanted.batch % (count // tensor) == 0
        and wanted.fsdp_dims % fsdp == 0
        and wanted.tensor_dims % tensor == 0
    )


def test_the_table_says_axis_size_and_why():
    _, table = choose_mesh(demand(20 * GB, 256), 32, 4, 16 * GB)
    text = "\n".join(map(str, table))
    assert [row.axis for row in table] == ["data", "fsdp", "tensor"]
    assert [row.size for row in table] == [4, 8, 1]
    assert "between the 4 slices only gradients travel" in text
    assert "state and gradients of 20 GB: 2.5 GB a device, of 16 GB; split so that an update is quick" in text
    assert "every device has clips of its own" in text
    thin = choose_mesh(Demand(200 * GB, 256, 1024, 4, narrowest=384), 64, 1, 16 * GB)[1]
    assert "the fewest that stay under 50%; its thinnest shards have 12 columns" in thin[1].why
    assert "quick without splitting" in choose_mesh(demand(GB // 2, 64), 8, 1, 16 * GB)[1][1].why
    across = choose_mesh(demand(100 * GB, 256), 32, 4, 16 * GB)[1]
    assert "do not fit in one of the 4 slices" in across[0].why
    assert "no mesh comes nearer to the 50%" in choose_mesh(demand(10**15, 256), 16, 1, GB)[1][1].why
    assert "8 clips do not feed 16 devices" in choose_mesh(demand(GB, 8), 16, 1, GB)[1][2].why


def test_a_batch_that_no_mesh_splits_is_refused():
    with pytest.raises(
        ValueError, match=r"no mesh of 7 devices splits batches into equal parts of 64 clips.*multiples of 7"
    ):
        choose_mesh(demand(GB, 64), 7, 1, None)


@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2), (2, 4, 1)], ids=str)
def test_slices_are_outermost_on_data_and_processes_hold_one_range(shape):
    arranged = arrange(devices(slices=2, hosts=2, per_host=2), shape)
    assert arranged.shape == shape
    half = shape[0] // 2
    assert {d.slice_index for d in arranged[:half].flat} == {0}
    assert {d.slice_index for d in arranged[half:].flat} == {1}
    assert_ranges(arranged)


def assert_ranges(arranged):
    parts = arranged.reshape(-1, arranged.shape[2])
    for process in {d.process_index for d in arranged.flat}:
        held = [i for i, group in enumerate(parts) if process in {d.process_index for d in group}]
        assert held == list(range(held[0], held[-1] + 1))


def test_an_order_that_scatters_a_process_is_not_taken(monkeypatch):
    """As that of a ring through a torus of 4 x 4 chips, which enters each host twice."""
    scattered = devices(slices=1, hosts=2, per_host=4)
    ring = [scattered[i] for i in (0, 4, 5, 1, 2, 6, 7, 3)]
    monkeypatch.setattr(
        "surgmotion_jax.parallel.mesh.mesh_utils.create_device_mesh",
        lambda shape, given: np.array(ring, dtype=object).reshape(shape),
    )
    arranged = arrange(scattered, (8, 1, 1))
    assert_ranges(arranged)
    assert [d.id for d in arranged.flat] == list(range(8))
    with pytest.raises(AssertionError):
        assert_ranges(np.array(ring, dtype=object).reshape(8, 1, 1))


def test_a_shape_that_the_torus_cannot_be_cut_into_is_laid_out_host_by_host(monkeypatch):
    def refuse(*_):
        raise NotImplementedError

    monkeypatch.setattr("surgmotion_jax.parallel.mesh.mesh_utils.create_device_mesh", refuse)
    assert [d.id for d in arrange(devices(1, 2, 4), (4, 2, 1)).flat] == list(range(8))


def test_fsdp_across_slices_is_laid_out_slice_by_slice():
    arranged = arrange(devices(slices=4, hosts=1, per_host=2)[::-1], (1, 8, 1))
    assert [d.slice_index for d in arranged.flat] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_slices_are_counted_and_memory_is_asked():
    assert slice_count(devices(3, 2, 1)) == 3
    assert slice_count(jax.devices()) == 1
    assert device_memory(Device(0, 0)) is None


@pytest.mark.parametrize(("memory", "split"), [(10**12, False), (None, False), (4 * 10**7, True)])
def test_a_config_gets_a_mesh_that_passes_its_checks(memory, split):
    config = small_config(**{"parallel.mesh": "auto"})
    placed, table = place(config, jax.devices(), memory)
    assert (placed.parallel.fsdp > 1) == split
    layout = MeshLayout(make_mesh(placed.parallel))
    _, state = check(placed, layout)
    gradients = bytes_per_device(state.params)
    if split:
        assert bytes_per_device(state) + gradients <= 0.55 * memory, "biases and norms are not split"
    assert len(table) == 3
    assert math.prod(row.size for row in table) == jax.device_count()


def test_the_demand_is_that_of_the_state():
    config = small_config()
    demand = demand_of(config)
    layout = MeshLayout(make_mesh(ParallelConfig(), jax.devices()[:1]))
    _, state = check(config, layout)
    assert demand.state_bytes == bytes_per_device(state) + bytes_per_device(state.params)
    assert (demand.batch, demand.fsdp_dims, demand.tensor_dims) == (8, 48, 6)
    offloaded = demand_of(small_config(**{"optim.offload": True}))
    assert demand.state_bytes - offloaded.state_bytes == bytes_per_device(state.opt_state)


def test_a_given_mesh_is_left_alone():
    config = small_config()
    assert place(config, jax.devices()) == (config, [])


def test_an_undecided_mesh_and_an_unknown_word_are_refused():
    with pytest.raises(ValueError, match="has not been chosen here; give its sizes"):
        make_mesh(ParallelConfig(mesh="auto"))
    with pytest.raises(ValueError, match="parallel.mesh is 'best'; it must be one of given, auto"):
        ParallelConfig(mesh="best")
