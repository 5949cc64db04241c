"""Accelerators that a plan can be made for, without having one: TPU slices, and GPU hosts by arithmetic alone.

A TPU slice is named `v5e:4x4`: a generation and the chips along each dimension of its torus. `libtpu` compiles for
one on any machine. A group of GPUs is named `gpu:h100x8`; where JAX's CUDA plugin is installed and knows the GPU, it
compiles for them, and elsewhere nothing is compiled.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from surgmotion_jax.checks import did_you_mean
from surgmotion_jax.parallel import gpu_compiler

if TYPE_CHECKING:
    import jax

GIB, MIB = 2**30, 2**20
GPU_SHARE = 0.75  # of a GPU's memory that JAX's allocator takes by default

# What libtpu asks of its environment before it loads: no metadata server, one host, not the only process that has it.
# JAX itself stays on the CPU, so that planning on a TPU machine leaves its chips alone.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
}

SQUARES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16"),
    *("16x16x16", "16x16x24"),
)


class Core(NamedTuple):
    """Figures of one device of a TPU."""

    vmem_bytes: int  # of a core's own memory that a kernel may take
    clock_hz: float
    hbm_bytes_per_s: float


@dataclass(frozen=True)
class Chip:
    """One kind of accelerator. Figures are those of its maker's data sheet; operations are dense, without sparsity."""

    name: str
    hbm_bytes: float  # a chip's memory, as announced
    usable_bytes: float  # what the compiler lets a program have of it, on one device
    peak_flops: float  # bfloat16, dense, a chip
    link_bytes: float  # bytes a second that a chip can send to its neighbours
    kinds: tuple[str, ...]  # the `device_kind` that JAX gives its devices, in full
    slices: tuple[str, ...] = ()  # shapes that exist
    devices: int = 1  # devices that JAX shows for a chip
    host_chips: int = 4  # chips fed by one host

    @property
    def core(self) -> Core | None:
        """What the programs of one device can count on; None for a GPU."""
        return CORES.get(self.name)

    @property
    def vmem_bytes(self) -> int:
        """Memory of one core that a kernel may take: 2 MiB less than it has. 0 for a GPU."""
        return self.core.vmem_bytes if self.core else 0


CORES: dict[str, Core] = {
    "TPU v4": Core(14 * MIB, 1.05e9, 614e9),
    "TPU v5e": Core(126 * MIB, 1.5e9, 819e9),
    "TPU v5p": Core(62 * MIB, 1.75e9, 2765e9),
    "TPU v6e": Core(126 * MIB, 1.75e9, 1640e9),
}

# Usable memory is what libtpu 0.0.42.1 names when a program is too large for it.
CHIPS: dict[str, Chip] = {
    "v4": Chip("TPU v4", 32 * GIB, 15.25 * GIB, 275e12, 300e9, ("TPU v4",), CUBES, devices=2),
    "v5e": Chip("TPU v5e", 16 * GIB, 15.75 * GIB, 197e12, 200e9, ("TPU v5 lite", "TPU v5e"), SQUARES),
    "v5p": Chip("TPU v5p", 95.74 * GIB, 95.74 * GIB, 459e12, 600e9, ("TPU v5", "TPU v5p"), CUBES),
    "v6e": Chip("TPU v6e", 32 * GIB, 31.25 * GIB, 918e12, 400e9, ("TPU v6 lite", "TPU v6e"), SQUARES),
}


def _gpu(name: str, memory: float, peak: float, link: float, *kinds: str) -> Chip:
    names = tuple(f"NVIDIA {kind}" for kind in kinds)
    return Chip(f"NVIDIA {name}", memory, GPU_SHARE * memory, peak, link, names, host_chips=8)


# Cards on PCIe reach one or three others through NVLink bridges; what all in a host share is PCIe, 16 lanes of it.
GPUS: dict[str, Chip] = {
    "a100": _gpu("A100 80 GB SXM", 80e9, 312e12, 300e9, "A100-SXM4-80GB"),
    "a100-40gb": _gpu("A100 40 GB SXM", 40e9, 312e12, 300e9, "A100-SXM4-40GB"),
    "a100-pcie": _gpu("A100 80 GB PCIe", 80e9, 312e12, 32e9, "A100 80GB PCIe"),
    "h100": _gpu("H100 SXM", 80e9, 989e12, 450e9, "H100 80GB HBM3"),
    "h100-pcie": _gpu("H100 PCIe", 80e9, 756e12, 64e9, "H100 PCIe"),
    "h100-nvl": _gpu("H100 NVL", 94e9, 835e12, 64e9, "H100 NVL"),
    "h200": _gpu("H200 SXM", 141e9, 989e12, 450e9, "H200"),
    "h200-nvl": _gpu("H200 NVL", 141e9, 835e12, 64e9, "H200 NVL"),
    "b200": _gpu("B200", 180e9, 2250e12, 900e9, "B200"),
}


def chip_of(device_kind: str) -> Chip | None:
    """The accelerator that JAX calls `device_kind`; None if it is not in the tables.

    Names are compared whole: of those that begin alike, some are other chips, and a MIG slice is a part of one.
    """
    return next((chip for chip in (*CHIPS.values(), *GPUS.values()) if device_kind in chip.kinds), None)


class TopologyError(ValueError):
    """A topology that does not exist or cannot be compiled for here."""


@dataclass(frozen=True)
class Topology:
    """A number of chips of one kind. `compiled` says whether programs can be compiled for it, or only estimated."""

    name: str
    chip: Chip
    chips: int
    compiled: bool

    @property
    def devices(self) -> int:
        """Devices that JAX shows."""
        return self.chips * self.chip.devices

    @property
    def is_gpu(self) -> bool:
        return self.chip.core is None

    @property
    def hosts(self) -> int:
        return -(-self.chips // self.chip.host_chips)

    @property
    def chips_of_a_host(self) -> int:
        """Of every host, or of every one but the last."""
        return min(self.chips, self.chip.host_chips)

    @property
    def usable_bytes(self) -> float:
        """Memory of one device that a program may take."""
        return self.chip.usable_bytes

    @property
    def peak_flops(self) -> float:
        """Of one device, bfloat16."""
        return self.chip.peak_flops / self.chip.devices

    @property
    def device_note(self) -> str:
        """What a device is, so that bytes per device can be read as bytes per chip."""
        usable = f"{self.usable_bytes / GIB:.2f} GiB usable"
        if not self.compiled:
            return f"{usable} each ({GPU_SHARE:.0%}; XLA_CLIENT_MEM_FRACTION raises it)"
        if self.chip.devices == 1:
            return f"one device a chip, {usable}"
        return f"{self.chip.devices} devices a chip, each with {usable}: double every figure per device for a chip"


def describe(name: str) -> Topology:
    """The topology of a name. Raises TopologyError naming those that exist."""
    kind, _, shape = name.partition(":")
    if kind == "gpu":
        return _gpus(name, shape)
    if kind not in CHIPS:
        hint = did_you_mean(kind, (*CHIPS, "gpu"))
        raise TopologyError(
            f"--topology {name!r}: {kind!r} is not a generation of TPUs that can be compiled for; there are "
            f"{', '.join(f'{g}:{c.slices[0]}' for g, c in CHIPS.items())} and larger, and gpu:h100x8.{hint}"
        )
    chip = CHIPS[kind]
    if shape not in chip.slices:
        raise TopologyError(
            f"--topology {name!r}: there is no {chip.name} slice of shape {shape or '(none)'!r}; there are "
            f"{', '.join(f'{kind}:{s}' for s in chip.slices)}."
        )
    return Topology(name, chip, math.prod(int(n) for n in shape.split("x")), compiled=True)


def _gpus(name: str, shape: str) -> Topology:
    found = re.fullmatch(r"([a-z0-9-]+)x([1-9]\d*)", shape)
    if not found or found[1] not in GPUS:
        raise TopologyError(
            f"--topology {name!r}: give a kind of GPU and how many, gpu:KINDxCOUNT, with KIND one of "
            f"{', '.join(GPUS)}; e.g. gpu:h100x8."
        )
    return Topology(name, GPUS[found[1]], int(found[2]), compiled=False)


def with_compiler(topology: Topology) -> Topology:
    """The topology, to be compiled for also if it is one of whole hosts of GPUs that an installed CUDA plugin knows."""
    if not topology.is_gpu or topology.chips % topology.chips_of_a_host:
        return topology
    known = gpu_compiler.description(topology.chip.kinds) is not None
    return replace(topology, compiled=True) if known else topology


def check_compiled(topology: Topology) -> None:
    """Raises TopologyError where nothing can be compiled for the topology here."""
    if not topology.compiled:
        raise TopologyError(
            f"--topology {topology.name}: the plan of an evaluation is what a compiler says, and there is none for it "
            "here; run pip install -e '.[gpu-plan]' and give whole hosts of a GPU that its plugin knows, such as "
            "gpu:h100x8, or a TPU slice such as v5e:2x2."
        )


def set_environment(environment: MutableMapping[str, str]) -> None:
    """Sets what libtpu needs. Call before JAX starts a backend; what the user has set stays."""
    for variable, value in TPU_ENVIRONMENT.items():
        environment.setdefault(variable, value)


def devices_of(topology: Topology) -> tuple[jax.Device, ...]:
    """Devices to compile for, as libtpu describes them; none of them exists here.

    Raises TopologyError where libtpu is missing or shows another number of devices than the table says.
    """
    import jax  # here, because `set_environment` comes before JAX is imported
    from jax.experimental import topologies

    if topology.is_gpu:
        text = gpu_compiler.description(topology.chip.kinds)
        assert text is not None, "compiled means described"
        return gpu_compiler.devices(text, topology.hosts, topology.chips_of_a_host)

    if importlib.util.find_spec("libtpu") is None:
        raise TopologyError(
            f"--topology {topology.name}: compiling for TPUs needs libtpu, which is not installed here; run "
            f"pip install -e '.[tpu]', which brings the version that jax {jax.__version__} pins, or plan for "
            "gpu:h100x8, which needs no compiler."
        )
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology.name)
    except RuntimeError as error:
        raise TopologyError(
            f"--topology {topology.name}: libtpu refuses: {error}. Use the version that jax {jax.__version__} pins: "
            "pip install -e '.[tpu]'."
        ) from error
    devices = tuple(described.devices)
    if len(devices) != topology.devices:
        raise TopologyError(
            f"--topology {topology.name}: this libtpu shows {len(devices)} devices for {topology.chips} chips, the "
            f"table of surgmotion_jax/parallel/topology.py says {topology.devices}; use the libtpu that jax "
            f"{jax.__version__} pins, or correct the table."
        )
    return devices
