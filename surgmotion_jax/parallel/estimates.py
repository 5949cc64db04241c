"""What the TPU compiler expects a program to take, read off its text, with loops multiplied out.

The compiler writes `estimated_cycles` beside every instruction except Pallas kernels. Large products come out as they
are measured in practice. Operations without a product are charged too much, at times several times what their bytes
take, so each has a corrected figure too: at most the time that its bytes in the chip's memory, padding included, take
at a share of the bandwidth. Kernels are estimated by `models/kernels/cycles.py`. Collectives are in neither figure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from surgmotion_jax.parallel.hlo import (
    Computation,
    Instruction,
    Module,
    element_bytes,
    loop_trips,
    parse_module,
    walk,
)

CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
TILED = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::((?:[^{}])*))?\})?")
KERNEL = 'custom_call_target="tpu_custom_call"'
BANDWIDTH_SHARE = 0.75  # of the memory's bandwidth that an operation reaches
COPY_SHARE = 0.4  # that a copy into another layout reaches
START_CYCLES = 1_000  # of an operation that moves next to nothing
LANES = 128  # in a row of a TPU's registers, to which memory is padded
BRIEF = 1 << 20  # bytes of arrays that are too small to cost time, such as gradients of a block's smaller weights
IN_PLACE = "dynamic-update-slice"  # in the name of a fusion that ends in one
UNMOVED = ("parameter", "get-tuple-element", "tuple", "bitcast", "while")  # what only names an array


@dataclass(frozen=True)
class Operation:
    """One instruction of a compiled program, on one device."""

    op_name: str  # path of JAX scopes and primitives; that of the loop around it where it has none
    source: str  # file:line that asked for it; empty where the compiler does not say
    shape: str
    count: float  # times that it runs in one run of the program
    cycles: float  # once, by the compiler; 0 for a kernel
    corrected: float  # once, at most what its bytes take
    product: bool  # holds a matrix product
    kernel: str  # name of a Pallas kernel; empty for what the compiler made itself


def operations(text: str, bytes_per_cycle: float) -> tuple[Operation, ...]:
    """Every instruction with an estimate, and every kernel. `bytes_per_cycle`: of the chip's memory, at its clock.

    A loop whose trips depend on data counts once: the compiler makes such loops only outside of what is timed.
    """
    module = parse_module(text)
    trips: dict[str, int] = {}
    frames = stack_frames(text)
    found = []
    for computation, instruction, loops, fused in walk(module):
        estimate = CYCLES.search(instruction.attributes)
        kernel = instruction.opcode == "custom-call" and KERNEL in instruction.attributes
        if fused or not (estimate or kernel):
            continue
        count = math.prod(loop_trips(module, loop, trips, otherwise=1) for loop in loops)
        op_name = instruction.op_name or (loops[-1].op_name if loops else "")
        cycles = float(estimate[1]) if estimate else 0.0
        product = _has_product(module, instruction)
        limit = _bytes_of(computation, instruction) / (bytes_per_cycle * _share(instruction)) + START_CYCLES
        found.append(
            Operation(
                op_name,
                _source(instruction, frames),
                instruction.shape,
                count,
                cycles,
                cycles if product else min(cycles, limit),
                product,
                _kernel_name(instruction) if kernel else "",
            )
        )
    return tuple(found)


def padded_bytes(dtype: str, dims: str, order: str | None, tiling: str | None) -> float:
    """Bytes of an array as it lies in memory: its minor axes padded to the tile of its layout."""
    sizes = [int(n) for n in dims.split(",") if n]
    tile = re.search(r"T\(([\d,]+)\)", tiling or "")
    if tile and order:
        minor_first = [int(axis) for axis in order.split(",")]
        for axis, width in zip(minor_first, reversed([int(n) for n in tile[1].split(",")]), strict=False):
            sizes[axis] = -(-sizes[axis] // width) * width
    return element_bytes(dtype) * math.prod(sizes)


def memory_bytes(shape: str) -> float:
    """Bytes of a shape in the chip's memory; what the compiler keeps in the core's own memory, S(1), is left out."""
    parts = (found.groups() for found in TILED.finditer(shape))
    return sum(padded_bytes(*part) for part in parts if "S(1)" not in (part[3] or ""))


def touched_bytes(text: str) -> float:
    """Bytes that all operations of a program read and write in memory, loops multiplied out: a ranking, no time."""
    module, trips, total = parse_module(text), dict[str, int](), 0.0
    for computation, instruction, loops, fused in walk(module):
        if not fused and instruction.opcode not in UNMOVED:
            count = math.prod(loop_trips(module, loop, trips, otherwise=1) for loop in loops)
            total += count * _bytes_of(computation, instruction)
    return total


def narrow_arrays(text: str) -> tuple[str, ...]:
    """float32 arrays that are made in loops, and whose rows fill less than half of a TPU's lanes.

    Their padding is read and written with them. Small ones are left out, as is what is written in place, of which a
    slice alone moves. Texts without tilings have none.
    """
    found = []
    for _, instruction, loops, fused in walk(parse_module(text)):
        if fused or not loops or instruction.opcode in UNMOVED or IN_PLACE in instruction.name:
            continue
        for part in TILED.finditer(instruction.shape):
            if _is_narrow(*part.groups()):
                asked = instruction.op_name or loops[-1].op_name
                found.append(f"{instruction.name}: {part[1]}[{part[2]}] ({asked})")
    return tuple(found)


def _is_narrow(dtype: str, dims: str, order: str | None, tiling: str | None) -> bool:
    tile = re.search(r"T\(\d+,(\d+)\)", tiling or "")
    if dtype != "f32" or not order or not tile or int(tile[1]) != LANES:
        return False
    row = int(dims.split(",")[int(order.split(",")[0])])
    return 1 < row < LANES // 2 and padded_bytes(dtype, dims, order, tiling) > BRIEF


def _bytes_of(computation: Computation, instruction: Instruction) -> float:
    known: Mapping[str, Instruction] = computation.instructions
    read = sum(memory_bytes(known[name].shape) for name in instruction.operands if name in known)
    return read + memory_bytes(instruction.shape)


def _share(instruction: Instruction) -> float:
    return COPY_SHARE if instruction.opcode == "copy" else BANDWIDTH_SHARE


def _has_product(module: Module, instruction: Instruction) -> bool:
    if instruction.opcode in ("convolution", "dot"):
        return True
    called = module.computations.get(instruction.called("calls") or "")
    return called is not None and any(_has_product(module, inner) for inner in called.instructions.values())


def stack_frames(text: str) -> dict[str, str]:
    """Places in files, 'models/linear.py:12', by the number of the stack frame that instructions name."""
    tables = {name: _numbered(text, name) for name in ("FileNames", "FileLocations", "StackFrames")}
    files = {number: entry.strip('"').rpartition("surgmotion_jax/")[2] for number, entry in tables["FileNames"].items()}
    places = {
        number: f"{files.get(_field('file_name_id', entry), '')}:{_field('line', entry)}"
        for number, entry in tables["FileLocations"].items()
    }
    return {
        number: places.get(_field("file_location_id", entry), "") for number, entry in tables["StackFrames"].items()
    }


def _numbered(text: str, table: str) -> dict[str, str]:
    """A table in the head of the text: its entries by number."""
    found = re.search(rf"^{table}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    return dict(line.split(" ", 1) for line in found[1].splitlines()) if found else {}


def _field(name: str, entry: str) -> str:
    found = re.search(rf"\b{name}=(\d+)", entry)
    return found[1] if found else ""


def _source(instruction: Instruction, frames: Mapping[str, str]) -> str:
    frame = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
    return frames.get(frame[1], "") if frame else ""


def _kernel_name(instruction: Instruction) -> str:
    """The name that JAX gave a kernel: the scope around its call."""
    scopes = instruction.op_name.removesuffix("/pallas_call")
    return scopes.rpartition("/")[2] or instruction.name
