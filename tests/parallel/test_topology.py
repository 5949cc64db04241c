"""Topologies by name: sizes, hosts, and what an unknown one is told."""

from __future__ import annotations

import importlib.util
import math
import types

import pytest
from jax.experimental import topologies

from surgmotion_jax.parallel import topology
from surgmotion_jax.parallel.topology import (
    CHIPS,
    GPUS,
    TPU_ENVIRONMENT,
    chip_of,
    describe,
    devices_of,
    set_environment,
)


@pytest.mark.parametrize(
    ("name", "chips", "devices", "hosts"),
    [
        ("v5e:16x16", 256, 256, 64),
        ("v5p:4x4x8", 128, 128, 32),
        ("v4:2x2x1", 4, 8, 1),
        ("gpu:h100x12", 12, 12, 2),
        ("gpu:h100-pciex8", 8, 8, 1),
    ],
)
def test_sizes(name, chips, devices, hosts):
    found = describe(name)
    assert (found.chips, found.devices, found.hosts) == (chips, devices, hosts)
    assert found.compiled == (not name.startswith("gpu"))
    assert found.peak_flops * found.devices == found.chip.peak_flops * chips


def test_every_slice_listed_is_a_topology():
    for generation, chip in CHIPS.items():
        for shape in chip.slices:
            assert describe(f"{generation}:{shape}").chips == math.prod(map(int, shape.split("x")))
        assert chip.usable_bytes * chip.devices <= chip.hbm_bytes


@pytest.mark.parametrize(
    ("kind", "chip"),
    [
        ("TPU v4", CHIPS["v4"]),
        ("TPU v5 lite", CHIPS["v5e"]),
        ("TPU v5", CHIPS["v5p"]),
        ("TPU v6 lite", CHIPS["v6e"]),
        ("NVIDIA H100 80GB HBM3", GPUS["h100"]),
        ("NVIDIA H100 PCIe", GPUS["h100-pcie"]),
        ("NVIDIA H200", GPUS["h200"]),
        ("NVIDIA H200 NVL", GPUS["h200-nvl"]),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("NVIDIA H100", None),
        ("TPU v5x", None),
        ("cpu", None),
    ],
)
def test_chips_by_the_names_that_devices_have(kind, chip):
    assert chip_of(kind) is chip


def test_no_name_is_that_of_two_chips_and_the_same_silicon_has_the_same_peak():
    chips = [*CHIPS.values(), *GPUS.values()]
    kinds = [kind for chip in chips for kind in chip.kinds]
    assert len(set(kinds)) == len(kinds)
    assert GPUS["h100-pcie"].peak_flops < GPUS["h100-nvl"].peak_flops < GPUS["h100"].peak_flops
    assert GPUS["h100"].peak_flops == GPUS["h200"].peak_flops


def test_a_chip_of_two_devices_is_said():
    assert "2 devices a chip" in describe("v4:2x2x1").device_note
    assert "one device a chip" in describe("v5p:2x2x1").device_note


def test_what_jax_leaves_of_a_gpu_is_said():
    gpus = describe("gpu:h100x8")
    assert gpus.usable_bytes == 60e9
    assert "55.88 GiB usable each (75%; XLA_CLIENT_MEM_FRACTION raises it)" in gpus.device_note


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e:3x3", "no TPU v5e slice of shape '3x3'; there are v5e:2x2, v5e:2x4, .*v5e:16x16"),
        ("v5p:4x4", "no TPU v5p slice of shape '4x4'; there are v5p:2x2x1"),
        ("v5e", r"no TPU v5e slice of shape '\(none\)'"),
        ("v5x:2x2", "'v5x' is not a generation .* v4:2x2x1, v5e:2x2"),
        ("gqu:h100x8", "Did you mean 'gpu'"),
        ("gpu:h100", "gpu:KINDxCOUNT, with KIND one of a100, a100-40gb, .* b200; e.g. gpu:h100x8"),
        ("gpu:h100x0", "gpu:KINDxCOUNT"),
        ("gpu:h100-sxmx8", "gpu:KINDxCOUNT"),
    ],
)
def test_a_topology_that_does_not_exist_names_those_that_do(name, message):
    with pytest.raises(ValueError, match=message):
        describe(name)


def test_the_environment_is_completed_not_overridden():
    environment = {"JAX_PLATFORMS": "cpu,tpu"}
    set_environment(environment)
    assert environment == TPU_ENVIRONMENT | {"JAX_PLATFORMS": "cpu,tpu"}


def test_missing_libtpu_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(topology.TopologyError, match=r"needs libtpu.*pip install -e '.\[tpu\]'"):
        devices_of(describe("v5e:2x2"))


@pytest.fixture
def libtpu(monkeypatch):
    """A libtpu that seems to be installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_a_libtpu_that_refuses_is_quoted(libtpu, monkeypatch):
    def refuse(**_):
        raise RuntimeError("wrong version")

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(topology.TopologyError, match=r"v5e:2x2: libtpu refuses: wrong version\. Use the version"):
        devices_of(describe("v5e:2x2"))


def test_another_number_of_devices_than_in_the_table_is_refused(libtpu, monkeypatch):
    monkeypatch.setattr(topologies, "get_topology_desc", lambda **_: types.SimpleNamespace(devices=[None] * 4))
    assert devices_of(describe("v5e:2x2")) == (None,) * 4
    with pytest.raises(topology.TopologyError, match="shows 4 devices for 4 chips, the table .* says 8"):
        devices_of(describe("v4:2x2x1"))
