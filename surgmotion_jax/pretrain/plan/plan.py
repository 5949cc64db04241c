"""A plan of a run: memory, operations, communication, input rate and cost of a config on a topology, before paying.

For a TPU slice the real training step is compiled; its memory, collectives and time are the compiler's. For GPUs it is
compiled where JAX's CUDA plugin is installed, and times are arithmetic at an assumed MFU; elsewhere everything is an
estimate. Nothing here has run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
from jax.sharding import AbstractMesh, AxisType

from surgmotion_jax.models.attention import check_attention, resolve_attention
from surgmotion_jax.parallel.auto_mesh import Row
from surgmotion_jax.parallel.collectives import Collective, collectives
from surgmotion_jax.parallel.compiled import Compiled, compile_program
from surgmotion_jax.parallel.gpu_compiler import OPTIONS
from surgmotion_jax.parallel.gpu_kernels import kernel_counts
from surgmotion_jax.parallel.mesh import MeshLayout, check_batch, make_mesh, mesh_shape
from surgmotion_jax.parallel.rules import MESH_AXES
from surgmotion_jax.parallel.times import ProgramTime, time_on
from surgmotion_jax.parallel.topology import Topology
from surgmotion_jax.pretrain.config import PretrainConfig
from surgmotion_jax.pretrain.plan.cost import (
    WIDTH,
    StepFlops,
    Traffic,
    expected_traffic,
    kept_bytes,
    step_flops,
    temporary_bytes,
)
from surgmotion_jax.pretrain.plan.program import Findings, sharded_block_bytes, study
from surgmotion_jax.pretrain.plan.times import PARTS, part_of
from surgmotion_jax.pretrain.sample.masks import MaskProgram, mask_programs
from surgmotion_jax.pretrain.setup import preflight
from surgmotion_jax.pretrain.setup.placement import place
from surgmotion_jax.pretrain.setup.summary import bytes_per_device, describe_attention
from surgmotion_jax.pretrain.state import TrainState, abstract_state, kept_for_parameters
from surgmotion_jax.pretrain.step import abstract_training_batch, compile_train_step

ASSUMED_MFU = 0.4  # where nothing says better
COMPILERS = "by the compiler's estimate"
SHARE = 0.85  # of a device's memory that a program should take at most
JPEG_CLIP_S, MP4_CLIP_S = 0.016, 0.244  # CPU seconds to decode 16 frames: JPEG records; a 480p video file at stride 4


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    capacity: float  # that a program may take
    parameters: int  # exact, from the shardings, as are the next three
    optimizer: int  # its state, without what is offloaded
    target: int
    batch: int
    padding: float  # arguments as laid out, less their exact size
    activations: float  # estimated: what forward keeps for backward
    temporaries: float  # the rest: gradients, gathered weights, clips as floats, one block's work
    code: float
    teacher: int = 0  # a frozen one, without a state of the optimiser
    host: int = 0  # offloaded state of the optimiser, in the memory of the device's host; no part of the peak

    @property
    def peak(self) -> float:
        state = self.parameters + self.optimizer + self.target + self.teacher + self.batch + self.padding
        return state + self.activations + self.temporaries + self.code

    @property
    def share(self) -> float:
        return self.peak / self.capacity


@dataclass(frozen=True)
class Plan:
    """Everything that is said about a config on a topology."""

    topology: Topology
    mesh: dict[str, int]
    mesh_table: tuple[Row, ...]  # why this mesh; empty where the config gives its sizes
    config: PretrainConfig
    attention: str  # of the blocks, and where another takes its place
    program: str  # the mask program compiled: the one with most context tokens
    compile_seconds: float  # 0: nothing was compiled
    memory: Memory
    flops: StepFlops
    traffic: tuple[Traffic, ...]  # of the compiled program, or what the rules imply
    findings: Findings  # of the compiled program
    mfu: float  # that all times below assume
    mfu_source: str  # where it comes from
    time: ProgramTime | None  # of the program compiled for a TPU; None elsewhere
    kernels: Mapping[str, int]  # of the program compiled for GPUs, by kind; empty elsewhere
    checkpoint_bytes: int
    estimated: bool  # nothing was compiled, or what was compiled does not fit and so gave no program

    @property
    def fits(self) -> bool:
        return self.memory.share <= 1

    @property
    def clips(self) -> float:
        """Clips of a micro-batch on one device."""
        return clips_per_device(self.config, self.mesh)

    @property
    def step_s(self) -> float:
        """Seconds of a step at that MFU: the mean over mask programs, by their operations."""
        return self.flops.model / (self.topology.peak_flops * self.topology.devices * self.mfu)

    @property
    def link_s(self) -> float:
        """Seconds that a chip's links need for what it sends in a step, were nothing else done meanwhile."""
        return sum(t.bytes for t in self.traffic) * self.topology.chip.devices / self.topology.chip.link_bytes

    @property
    def clips_per_s(self) -> float:
        return self.config.optim.batch / self.step_s

    @property
    def host_clips_per_s(self) -> float:
        return self.clips_per_s / self.topology.hosts

    def host_cores(self, seconds_per_clip: float) -> float:
        """CPU cores a host needs to decode in time; the seconds are those of 16 frames."""
        return self.host_clips_per_s * seconds_per_clip * self.config.data.frames / 16

    @property
    def chip_hours(self) -> float:
        return self.config.steps * self.step_s * self.topology.chips / 3600


Compile = Callable[[PretrainConfig, MaskProgram, MeshLayout], Compiled]


def clips_per_device(config: PretrainConfig, mesh: Mapping[str, int]) -> float:
    return config.optim.batch / (mesh["data"] * mesh["fsdp"] * config.optim.accumulate)


def abstract_layout(config: PretrainConfig, devices: int) -> MeshLayout:
    """The layout of a mesh without devices: enough for shapes and shardings."""
    shape = mesh_shape(config.parallel, devices)
    return MeshLayout(AbstractMesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES)))  # type: ignore[arg-type]


def decided(
    config: PretrainConfig, topology: Topology, devices: Sequence[jax.Device]
) -> tuple[PretrainConfig, tuple[Row, ...]]:
    """The config with what it leaves open decided for the topology: an 'auto' mesh or attention, a size of -1.

    Also the table that explains an 'auto' mesh; empty for a given one.
    """
    platform = devices[0].platform if topology.compiled else "gpu"
    placed, table = place(plain(config), devices or (None,) * topology.devices, round(topology.usable_bytes))
    data, fsdp, tensor = mesh_shape(placed.parallel, topology.devices)
    parallel = replace(placed.parallel, data=data, fsdp=fsdp, tensor=tensor)
    return replace(config, parallel=parallel, model=resolve_attention(config.model, platform)), tuple(table)


def plain(config: PretrainConfig) -> PretrainConfig:
    """The config with an attention that any machine has: shapes are the same, and no library is asked for."""
    return replace(config, model=replace(config.model, attention="xla"))


def check(config: PretrainConfig, layout: MeshLayout) -> tuple[tuple[MaskProgram, ...], TrainState]:
    """`preflight.check` for GPUs that are not there. Raises its ValueErrors."""
    check_attention(config.model.attention, "gpu", config.model.dtype)
    programs = mask_programs(config.mask, config.grid)
    preflight.check_terms(config, programs)
    check_batch("optim.batch", config.optim.batch, layout, config.optim.accumulate)
    check_batch("heldout.batch", config.heldout.batch, layout)
    return programs, sharded_shapes(config, layout)


def sharded_shapes(config: PretrainConfig, layout: MeshLayout) -> TrainState:
    """`abstract_state` on machines without the attention and the host memory that the config names."""
    config = plain(config)
    return abstract_state(replace(config, optim=replace(config.optim, offload=False)), layout)


def compile_step(config: PretrainConfig, program: MaskProgram, layout: MeshLayout) -> Compiled:
    """Compiles the step. A program that is too large for the device's memory is a result, not an error."""
    options = OPTIONS if layout.platform == "gpu" else None
    return compile_program(lambda: compile_train_step(config, program, layout, options))


def largest(programs: Sequence[MaskProgram]) -> MaskProgram:
    """The program with most context tokens: the encoder keeps most for it."""
    return max(programs, key=lambda program: sum(program.contexts))


def plan(
    config: PretrainConfig,
    topology: Topology,
    devices: Sequence[jax.Device] = (),
    mfu: float | None = None,
    compile: Compile = compile_step,
) -> Plan:
    """Plans a config on a topology, whose described devices are given where it can be compiled for.

    Times follow from `mfu`; None takes the compiler's estimate, and `ASSUMED_MFU` where there is none.

    Raises ValueError where config, mesh and batch do not fit one another, as the run itself would.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise ValueError(f"--mfu is {mfu:g}; it is a share of peak operations, above 0 and at most 1.")
    config, mesh_table = decided(config, topology, devices)
    if topology.compiled:
        layout = MeshLayout(make_mesh(config.parallel, devices))
        programs, state = preflight.check(config, layout)
        compiled = compile(config, largest(programs), layout)
    else:
        layout, compiled = abstract_layout(config, topology.devices), None
        programs, state = check(config, layout)
    mesh = {name: int(size) for name, size in layout.mesh.shape.items()}
    text = compiled.text if compiled else ""
    found: list[Collective] = collectives(text, mesh) if text else []
    time = time_of(config, topology, largest(programs), text)
    mfu, mfu_source = decided_mfu(mfu, time, topology)
    return Plan(
        topology=topology,
        mesh=mesh,
        mesh_table=mesh_table,
        config=config,
        attention=describe_attention(config, layout, programs),
        program=largest(programs).name,
        compile_seconds=compiled.seconds if compiled else 0.0,
        memory=memory_of(config, topology, layout, state, largest(programs), compiled),
        flops=step_flops(config, programs),
        traffic=summed(found) if text else expected_traffic(config, state, mesh),
        findings=study(config, layout, state, text, found),
        mfu=mfu,
        mfu_source=mfu_source,
        time=time,
        kernels=kernel_counts(text) if text and topology.is_gpu else {},
        checkpoint_bytes=sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)),
        estimated=not text,
    )


def time_of(config: PretrainConfig, topology: Topology, program: MaskProgram, text: str) -> ProgramTime | None:
    """What the compiler estimates of the program that it compiled; None where it says nothing."""
    return time_on(topology, text, step_flops(config, [program]).model / topology.devices, PARTS, part_of)


def decided_mfu(mfu: float | None, time: ProgramTime | None, topology: Topology) -> tuple[float, str]:
    """The MFU that times are computed with, and where it comes from."""
    if mfu is not None:
        return mfu, "as given"
    if time is not None:
        return time.mfu(topology.peak_flops).plain, COMPILERS
    return ASSUMED_MFU, "assumed"


def memory_of(
    config: PretrainConfig,
    topology: Topology,
    layout: MeshLayout,
    state: TrainState,
    program: MaskProgram,
    compiled: Compiled | None,
) -> Memory:
    """Memory by category: exact for the state, the compiler's for the rest where there is a compiler."""
    clips = clips_per_device(config, layout.mesh.shape)
    host = offloaded_bytes(config, state)
    parts = {
        "parameters": bytes_per_device(state.params),
        "optimizer": bytes_per_device((state.opt_state, state.step)) - host,
        "target": bytes_per_device(state.target),
        "teacher": bytes_per_device(state.teacher),
        "batch": bytes_per_device(abstract_training_batch(config, layout)),
    }
    exact = sum(parts.values())
    kept = kept_bytes(config, program, clips)
    if compiled is None:
        # Gradients are as large as parameters. Another copy is what a scatter ends in, and a sum over micro-batches or
        # over several passes through the networks.
        mesh, sharded = layout.mesh.shape, layout.mesh.shape["fsdp"] > 1
        passes = len(program.contexts) + (config.images.batch > 0)
        copies = 1 + sharded + (config.optim.accumulate > 1) + (passes > 1)
        block = sharded_block_bytes(state.params["encoder"], WIDTH[config.model.dtype], mesh["tensor"])
        rest = temporary_bytes(config, program, clips, copies * parts["parameters"], sharded * block)
        kept = min(kept, rest)
        rest -= kept
        return Memory(topology.usable_bytes, **parts, padding=0, activations=kept, temporaries=rest, code=0, host=host)
    if compiled.needed:
        rest = max(0.0, compiled.needed - exact)
        kept = min(kept, rest)
        rest -= kept
        return Memory(topology.usable_bytes, **parts, padding=0, activations=kept, temporaries=rest, code=0, host=host)
    kept = min(kept, max(0.0, compiled.temporaries - parts["parameters"]))
    return Memory(
        topology.usable_bytes,
        **parts,
        padding=compiled.arguments - exact + compiled.outputs,
        activations=kept,
        temporaries=compiled.temporaries - kept,
        code=compiled.code,
        host=host,
    )


def offloaded_bytes(config: PretrainConfig, state: TrainState) -> int:
    """Bytes of the optimiser's state that one device leaves to its host, given the abstract state."""
    return bytes_per_device(kept_for_parameters(state)) if config.optim.offload else 0


def summed(found: Sequence[Collective]) -> tuple[Traffic, ...]:
    """Collectives of a program, added up by what they do and along which axes; rings of permutes keep their name."""
    totals: dict[tuple[str, tuple[str, ...]], tuple[int, float]] = {}
    for one in found:
        ring = one.kind == "collective-permute" and one.role != "reduce"
        key = (f"{one.kind} ({one.role})" if ring else one.kind, one.axes)
        count, total = totals.get(key, (0, 0.0))
        totals[key] = count + one.count, total + one.total_bytes
    return tuple(Traffic(kind, axes, *values) for (kind, axes), values in totals.items())
