"""Collectives of a compiled program: kind, bytes, the mesh axes that they run along, how often they happen."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from surgmotion_jax.parallel.hlo import (
    Computation,
    HloError,
    Instruction,
    Module,
    arguments_bytes,
    loop_trips,
    parse_module,
    walk,
)

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "ragged-all-to-all", "collective-permute")
WINDOWED = re.compile(r"windowed_dot_general_body_(ag|rs)")


@dataclass(frozen=True)
class Loop:
    """A loop around a collective."""

    body: str
    op_name: str
    trips: int


@dataclass(frozen=True)
class Collective:
    """One collective instruction of a compiled program, asynchronous ones counted at their start."""

    kind: str
    role: str  # gather, scatter or reduce: a ring of permutes inside a product does the work of one of the first two
    axes: tuple[str, ...]  # mesh axes along which devices exchange
    group: int  # devices that exchange with one another
    operand_bytes: int  # on one device, once
    loops: tuple[Loop, ...]  # outermost first
    op_name: str
    name: str

    @property
    def count(self) -> int:
        """How often it happens in one run of the program."""
        return math.prod(loop.trips for loop in self.loops)

    @property
    def full_bytes(self) -> int:
        """Bytes of the whole buffer, once: what an all-gather makes, what the others take."""
        return self.operand_bytes * (self.group if self.kind == "all-gather" else 1)

    @property
    def wire_bytes(self) -> float:
        """Bytes that a device sends (and receives) for it, once, by the usual ring algorithm."""
        others = (self.group - 1) / max(self.group, 1)
        return self.full_bytes * {"all-reduce": 2 * others, "collective-permute": 1.0}.get(self.kind, others)

    @property
    def total_bytes(self) -> float:
        """Bytes that a device sends for it in one run of the program."""
        return self.count * self.wire_bytes


def collectives(text: str, mesh: Mapping[str, int]) -> list[Collective]:
    """Every collective of a compiled program over a mesh (axis -> size, outermost first).

    Raises HloError for loops whose trip count cannot be read and device groups of an unknown form.
    """
    module = parse_module(text)
    whole: list[Collective] = []
    pieces: dict[tuple[str, str, int], list[Collective]] = {}
    trips: dict[str, int] = {}
    for computation, instruction, loops, fused in walk(module):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        # The TPU compiler writes a reduce-scatter as a fusion of an all-reduce and the slice that is wanted of it.
        scatter = kind == "all-reduce" and "all-reduce-scatter" in computation.name
        kind = "reduce-scatter" if scatter else kind
        around = tuple(_loop(module, loop, trips) for loop in loops)
        one = _collective(computation, instruction, kind, around, mesh)
        channel = re.search(r"channel_id=(\d+)", instruction.attributes)
        if fused and channel and not scatter:
            pieces.setdefault((channel[1], kind, one.operand_bytes), []).append(one)
        else:
            whole.append(replace(one, role=_role(module, computation, instruction, kind)))
    # Inside fusions, the TPU compiler spreads one collective over computation that hides it; the pieces share their
    # channel. It happens as often as its rarest piece, since the others may sit in loops that it overlaps.
    return whole + [min(same, key=lambda c: c.count) for same in pieces.values()]


def _loop(module: Module, loop: Instruction, known: dict[str, int]) -> Loop:
    return Loop(loop.called("body") or "", loop.op_name, loop_trips(module, loop, known))


def _collective(
    computation: Computation, found: Instruction, kind: str, loops: tuple[Loop, ...], mesh: Mapping[str, int]
) -> Collective:
    groups = device_groups(found.attributes, math.prod(mesh.values()))
    role = {"all-gather": "gather", "reduce-scatter": "scatter"}.get(kind, "reduce")
    size = max((len(g) for g in groups), default=1)
    # The operand of a -start is a tuple's first half, but the operands themselves are plain arrays.
    return Collective(
        kind,
        role,
        axes_of(groups, mesh),
        size,
        arguments_bytes(computation, found),
        loops,
        found.op_name,
        found.name,
    )


def _role(module: Module, computation: Computation, found: Instruction, kind: str) -> str:
    """What a collective is for. A ring of permutes is told by the loop that it is in, feeds, or ends."""
    if kind != "collective-permute":
        return {"all-gather": "gather", "reduce-scatter": "scatter"}.get(kind, "reduce")
    inside = WINDOWED.search(computation.name)
    if inside:
        return {"ag": "gather", "rs": "scatter"}[inside[1]]
    rings = {}
    for other in computation.instructions.values():
        ring = WINDOWED.search(other.called("body") or "") if other.opcode == "while" else None
        if ring and other.op_name == found.op_name:
            rings[ring[1]] = other.name
    if len(rings) == 2:
        return "scatter" if rings["rs"] in _ancestors(computation, found.name) else "gather"
    return "gather" if "ag" in rings else "scatter" if "rs" in rings else "reduce"


def _ancestors(computation: Computation, name: str) -> set[str]:
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        one = ahead.pop()
        if one not in seen and one in computation.instructions:
            seen.add(one)
            ahead += computation.instructions[one].operands
    return seen


def device_groups(attributes: str, devices: int) -> list[tuple[int, ...]]:
    """Groups of partition numbers that exchange, from any of the forms in which HLO writes them; pairs for permutes.

    Raises HloError for another form.
    """
    pairs = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", attributes)
    if pairs:
        return [(int(a), int(b)) for a, b in re.findall(r"\{(\d+),(\d+)\}", pairs[1])]
    listed = re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", attributes)
    if listed:
        groups = [tuple(map(int, g.split(","))) for g in re.findall(r"\{([\d,]+)\}", listed[1])]
        return groups or [tuple(range(devices))]
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)", attributes)
    if iota:
        return _rows(_iota(iota[2]).reshape(_numbers(iota[1])))
    named = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((\[[^)]*\]T\([^)]*\)|[^)]*)\))? *\{([^}]*)\}", attributes
    )
    if named:
        return _named_groups(named[1], named[2], named[3])
    raise HloError(f"HLO text: no device groups of a known form in {attributes[:120]!r}.")


def _named_groups(axes: str, ids: str | None, along: str) -> list[tuple[int, ...]]:
    """Groups of the form mesh['x'=4,'y'=2], device_ids=(...) {'x','y':(2)2}: devices that differ in the given axes."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    dims, chosen = list(sizes.items()), []
    for name, before, part in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", along):
        if part:  # a part of an axis: (product of the parts before it)its size
            at = [n for n, _ in dims].index(name)
            pre, size = int(before), int(part)
            split = [(name, pre), (f"{name}/", size), (name, sizes[name] // pre // size)]
            dims[at : at + 1] = split
            chosen.append(at + 1)
        else:
            chosen.append([n for n, _ in dims].index(name))
    shape = [size for _, size in dims]
    if ids is None:
        numbers = np.arange(math.prod(shape))
    else:
        numbers = _iota(ids) if ids.startswith("[") else np.array(_numbers(ids))
    moved = np.moveaxis(numbers.reshape(shape), chosen, range(len(shape) - len(chosen), len(shape)))
    return _rows(moved.reshape(-1, math.prod(shape[i] for i in chosen)))


def _iota(text: str) -> np.ndarray:
    """Numbers of the form [4,2]T(1,0): counted in the shape, read in the transposed order."""
    shape, order = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()  # type: ignore[union-attr]
    counted = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return (counted.transpose(_numbers(order)) if order else counted).reshape(-1)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))


def _rows(groups: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(n) for n in row) for row in groups]


def axes_of(groups: Iterable[Sequence[int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Mesh axes in which the devices of a group differ; partition n is device n of the mesh in row-major order."""
    differing: set[int] = set()
    for group in groups:
        places = np.stack(np.unravel_index(np.array(group), tuple(mesh.values())), axis=1)
        differing |= set(np.flatnonzero((places != places[0]).any(0)).tolist())
    return tuple(axis for i, axis in enumerate(mesh) if i in differing)
