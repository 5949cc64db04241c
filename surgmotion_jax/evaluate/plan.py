"""What an evaluation would take on accelerators that are not there: its programs compiled, none of them run.

There are two: the frozen encoder on windows, and a step of all heads, which train at once (`vmap`) or one after the
other (`loop`). On TPUs the compiler estimates times. For GPUs it tells memory; the bytes that operations touch rank the
two ways there, which is no time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from surgmotion_jax.benchmarks import catalogue
from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.encoder.frozen import FrozenEncoder, computed, placed
from surgmotion_jax.evaluate.encoder.weights import RANDOM, Origin
from surgmotion_jax.evaluate.features.cache import Wanted
from surgmotion_jax.evaluate.heads import targets
from surgmotion_jax.evaluate.heads.networks import PIXEL_HEADS, Head
from surgmotion_jax.evaluate.heads.of_tasks import check_head, head_for, wanted_features, with_attention
from surgmotion_jax.evaluate.heads.sweep_program import (
    FREE_SHARE,
    Batch,
    Plan,
    Program,
    Work,
    compile_group,
    fitting,
    groupings,
)
from surgmotion_jax.evaluate.heads.targets import Objective
from surgmotion_jax.models.attention import settled
from surgmotion_jax.models.catalogue import backbone_of
from surgmotion_jax.models.config import VARIANTS, ModelConfig, TransformerConfig
from surgmotion_jax.models.flops import encoder_flops
from surgmotion_jax.models.fused_attention import FUSED, why_not
from surgmotion_jax.models.layout import Layout
from surgmotion_jax.models.probe import ProbeConfig
from surgmotion_jax.parallel.compiled import Compiled, compile_program
from surgmotion_jax.parallel.estimates import UNMOVED, touched_bytes
from surgmotion_jax.parallel.gpu_compiler import OPTIONS
from surgmotion_jax.parallel.gpu_kernels import kernel_counts
from surgmotion_jax.parallel.hlo import parse_module, walk
from surgmotion_jax.parallel.mesh import OneDevice
from surgmotion_jax.parallel.times import ProgramTime, Time, time_on
from surgmotion_jax.parallel.topology import Topology

PLANNED_HEADS = ("attentive", "linear", "dense", "patch_linear")  # whose batches have a known shape
CLASSES = tuple(f"class {number}" for number in range(10))  # how many there are decides nothing at these sizes
STEPS = 1000  # of the heads' schedule, which decides nothing either
ARRAY = re.compile(r"(f32|bf16)\[(\d+,[\d,]*)\]")


@dataclass(frozen=True)
class Encoding:
    """The encoder on the windows of one call."""

    windows: int  # on all devices together; rows that only fill up a batch are not among them
    tokens: int  # of a window
    attention: str
    compiled: Compiled
    time: ProgramTime | None  # on TPUs
    kernels: Mapping[str, int]  # on GPUs, by kind
    weights: tuple[str, ...]  # arrays of attention weights in the device's memory

    @property
    def seconds(self) -> Time | None:
        """Of a window, on all devices together."""
        return self.time.total.times(1 / self.windows) if self.time else None

    @property
    def peak(self) -> float:
        """Bytes of one device."""
        read = self.compiled
        return read.needed or read.arguments + read.outputs + read.temporaries + read.code


@dataclass(frozen=True)
class Way:
    """One way to train the heads."""

    plan: Plan
    time: Time | None  # of a step of all heads, on TPUs
    unknown_kernels: tuple[str, ...]  # in no time
    touched: float  # bytes that the operations of a step of all heads read and write on a device
    weights: tuple[str, ...]  # arrays of attention weights in the device's memory

    @property
    def name(self) -> str:
        """`vmap` or `loop`."""
        return "vmap" if self.plan.group > 1 else "loop"


@dataclass(frozen=True)
class EvaluationPlan:
    """Everything that is said about an evaluation on a topology."""

    topology: Topology
    config: EvaluateConfig
    encoder: str
    encoding: Encoding
    attention: str  # of the heads' blocks; empty for those without
    ways: tuple[Way, ...]  # the better one first; empty where no head is planned
    note: str  # why no head is planned

    @property
    def fits(self) -> bool:
        """Whether the encoder does. Heads that do not fit are an error that says what to change."""
        return self.encoding.peak <= self.topology.usable_bytes


def plan_evaluation(
    config: EvaluateConfig, encoder: str, topology: Topology, devices: Sequence[jax.Device]
) -> EvaluationPlan:
    """Compiles what the evaluation of an encoder, named as `vit_large` or `vit_nano/8`, would run.

    Raises ValueError for an encoder that there is not, a head that the benchmark cannot have, heads that do not fit the
    memory, an encoder that is to be trained, and devices of several hosts, which no evaluation has.
    """
    _check(config, topology)
    asked, layout = model_named(encoder), placed("bfloat16", "auto", devices)
    model = computed(asked, "bfloat16", "auto", layout)
    config = with_attention(config, layout.platform, model.encoder.width)
    check_head(catalogue.get(config.data.benchmark).family, config.probe.head)
    wanted = wanted_features(config, model.encoder.depth)
    params = jax.eval_shape(backbone_of(model).init, jax.random.key(0))
    frozen = FrozenEncoder(model, params, Origin(RANDOM, ("target",), 0, ""), layout)
    encoding, shape = _encoding(config, frozen, wanted, topology), wanted.shape(frozen, config.data)
    if config.probe.head not in PLANNED_HEADS:
        note = f"nothing is planned for the {config.probe.head} head: what it learns from depends on the data"
        return EvaluationPlan(topology, config, encoder, encoding, "", (), note)
    objective = _objective(config)
    head = head_for(config, objective, shape, layout=OneDevice(layout))
    ways = _ways(config, frozen, head, objective, batch_shapes(config, objective, shape), topology)
    attention = ""
    if isinstance(head.config, ProbeConfig) and head.config.depth > 1:
        attention = described(head.config.trunk, int(np.prod(shape[:-1])), OneDevice(layout))
    return EvaluationPlan(topology, config, encoder, encoding, attention, ways, "")


def model_named(encoder: str) -> ModelConfig:
    """The architecture of `vit_large` or `vit_nano/8`. Raises ValueError for a name that is none."""
    variant, slash, patch = encoder.partition("/")
    if variant not in VARIANTS or (slash and not re.fullmatch(r"[1-9]\d*", patch)):
        raise ValueError(
            f"--encoder {encoder!r}: give VARIANT or VARIANT/PATCH, as vit_large or vit_nano/8, with one of "
            f"{', '.join(VARIANTS)}"
        )
    return ModelConfig(variant=variant, patch=int(patch or ModelConfig.patch))


def _check(config: EvaluateConfig, topology: Topology) -> None:
    if config.finetune.trains:
        raise ValueError(
            f"finetune.blocks is {config.finetune.blocks}, but the plan is that of a frozen encoder; leave it out"
        )
    if topology.hosts > 1:
        raise ValueError(
            f"--topology {topology.name} has {topology.hosts} hosts, but an evaluation runs on the devices of one; "
            f"give at most {topology.chip.host_chips} chips"
        )


def described(c: TransformerConfig, tokens: int, layout: Layout) -> str:
    """The attention that blocks have over so many tokens, and why it is not the one that was asked for."""
    found = settled(c, tokens, layout).attention
    if found == c.attention:
        return found
    return f"{found}, not {FUSED}: {why_not(c, tokens, layout.parts('heads'), layout.vmem_bytes)}"


def attention_weights(text: str, tokens: int, heads: int) -> tuple[str, ...]:
    """Arrays of tokens x tokens for whole sets of heads that a compiled program keeps in the device's memory."""
    if not text:
        return ()
    found, end = [], [tokens, tokens]
    for _, instruction, _, fused in walk(parse_module(text)):
        if fused or instruction.opcode in UNMOVED:
            continue
        for array in ARRAY.finditer(instruction.shape):
            sizes = [int(size) for size in array[2].split(",")]
            # Projections may have as many columns as there are tokens, but not so many before them.
            if sizes[-2:] == end and len(sizes) > 2 and math.prod(sizes[:-2]) % heads == 0:
                found.append(f"{instruction.name} {array[0]}")
    return tuple(found)


def _encoding(config: EvaluateConfig, encoder: FrozenEncoder, wanted: Wanted, topology: Topology) -> Encoding:
    data, model, layout = config.data, encoder.config, encoder.layout
    windows, parts = config.cache.batch, layout.batch_parts
    size = (-(-windows // parts) * parts, data.frames, data.size, data.size, 3)
    compiled = compile_program(lambda: encoder.compile(size, wanted.layers, options(topology)))
    tokens = encoder.grid(data.frames, data.size, data.size).tokens
    return Encoding(
        windows,
        tokens,
        described(model.encoder, tokens, layout),
        compiled,
        time_on(topology, compiled.text, encoder_flops(model, tokens) * windows / topology.devices),
        kernel_counts(compiled.text) if compiled.text and topology.is_gpu else {},
        attention_weights(compiled.text, tokens, model.encoder.heads),
    )


def _ways(
    config: EvaluateConfig, encoder: FrozenEncoder, head: Head, objective: Objective, shapes: Batch, topology: Topology
) -> tuple[Way, ...]:
    """Heads as many at once as fit, and one after the other; the faster first, or on GPUs that which touches less."""
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(encoder.params))  # it stays where it is
    budget = int(1e9 * config.sweep.memory_gb) or max(int(FREE_SHARE * topology.usable_bytes) - held, 1)
    points = np.array(config.sweep.grid.points)
    work = Work(head, objective, STEPS, points, shapes, encoder.layout, budget, options(topology))
    wanted = [way for way in groupings(work) if way[1] == 1 or config.sweep.strategy != "loop"]
    programs = [fitting(work, wanted)]
    if programs[0].plan.group > 1 and config.sweep.strategy == "auto":
        programs.append(compile_group(work, programs[0].plan.placement, 1))
    attended = shapes.features.shape[1] if config.probe.head == "attentive" else 0
    ways = [_way(program, topology, attended, config.probe.heads) for program in programs]
    return tuple(sorted(ways, key=lambda way: way.time.plain if way.time else way.touched))


def _way(program: Program, topology: Topology, attended: int, heads: int) -> Way:
    """`attended` tokens attend to one another in so many attention heads; 0 where none do."""
    compiled: Any = program.run
    text = compiled.as_text()
    time, groups = time_on(topology, text, 0.0), program.plan.groups
    return Way(
        program.plan,
        time.total.times(groups) if time else None,
        time.unknown_kernels if time else (),
        groups * touched_bytes(text),
        attention_weights(text, attended, heads) if attended else (),
    )


def options(topology: Topology) -> Mapping[str, str] | None:
    """The compiler's, for devices that are not there."""
    return OPTIONS if topology.is_gpu else None


def _objective(config: EvaluateConfig) -> Objective:
    """That of the benchmark's family; where its classes depend on the data, or are columns, some number of classes."""
    family = catalogue.get(config.data.benchmark).family
    if family == "segmentation":
        return targets.segmentation()
    if family == "depth":
        return targets.depth(1.0)
    if family == "skill":
        return targets.regression([0.0, 1.0])
    return targets.classification(np.arange(len(CLASSES)), CLASSES)


def batch_shapes(config: EvaluateConfig, objective: Objective, shape: tuple[int, ...]) -> Batch:
    """A step's input, for features of `shape`."""
    rows, side, head = config.sweep.batch, config.data.size, config.probe.head
    dense = head in PIXEL_HEADS
    features = (shape[0], rows, *shape[1:]) if dense else (rows, int(np.prod(shape[:-1])), shape[-1])
    labels = (rows, side, side) if dense else (rows,)
    label = jnp.float32 if objective.name in ("depth", "regression") else jnp.int32
    made = jax.ShapeDtypeStruct
    return Batch(made(features, jnp.float32), made(labels, label), made(labels, bool))
