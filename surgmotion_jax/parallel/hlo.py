"""Compiled HLO text as a graph: computations, instructions, sizes, and how often a loop runs.

What a compiler did is read off the text that it prints; nothing here needs devices. Both XLA's CPU text and the TPU
compiler's, whose shapes carry tilings and whose loops carry no trip counts, are understood.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "f16": 2, "token": 0, "opaque": 0}
ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
NAME = re.compile(r"%([\w.\-]+)")
TRANSPARENT = ("copy", "bitcast", "convert", "copy-start", "copy-done", "optimization-barrier")


class HloError(ValueError):
    """HLO text that cannot be read."""


def element_bytes(dtype: str) -> float:
    """Bytes of one element of an HLO dtype: f32 4, s8 1, f8e4m3fn 1."""
    if dtype in BYTES:
        return BYTES[dtype]
    bits = re.match(r"[a-z]+(\d+)", dtype)
    if not bits:
        raise HloError(f"HLO text: dtype {dtype!r} is not one of s, u, f, c, bf with a number of bits, pred, token.")
    return int(bits[1]) / 8


def shape_bytes(text: str) -> int:
    """Bytes of a shape, all parts of a tuple together; layouts are ignored."""
    sizes = (element_bytes(t) * math.prod(int(n) for n in dims.split(",") if n) for t, dims in ARRAY.findall(text))
    return round(sum(sizes))


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    inside: str  # the text between the operation's parentheses
    attributes: str  # the text after them
    root: bool

    def called(self, attribute: str) -> str | None:
        """The computation that an attribute such as `body` names."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.attributes)
        return found[1] if found else None

    @property
    def op_name(self) -> str:
        """The path of JAX scopes and primitives that the instruction comes from."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass(frozen=True)
class Computation:
    """A computation's instructions in order, and by name."""

    name: str
    instructions: dict[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next(i for i in self.instructions.values() if i.root)

    def parameter(self, number: int) -> Instruction | None:
        """The instruction that stands for the operand of that number."""
        return next(
            (i for i in self.instructions.values() if i.opcode == "parameter" and i.inside == str(number)), None
        )

    def source(self, name: str) -> Instruction:
        """The instruction behind copies and bitcasts."""
        found = self.instructions[name]
        while found.opcode in TRANSPARENT and found.operands:
            found = self.instructions[found.operands[0]]
        return found


@dataclass(frozen=True)
class Module:
    """A compiled program."""

    computations: dict[str, Computation]
    entry: str

    def entry_parameters(self) -> list[str]:
        """Shapes of the program's arguments, without layouts: 'f32[24,64]'."""
        found = self.computations[self.entry].instructions.values()
        return [ARRAY.match(i.shape)[0] for i in found if i.opcode == "parameter" and ARRAY.match(i.shape)]  # type: ignore[index]


def _balanced(text: str, start: int) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i + 1
    raise HloError(f"HLO text: a parenthesis is never closed in {text[:80]!r}.")


def parse_instruction(line: str) -> Instruction | None:
    """One instruction, or None for a line that is none."""
    head = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)
    if not head:
        return None
    start = head.end()
    end = _balanced(line, start) if line[start] == "(" else line.find(" ", start)
    operation = re.match(r" *([\w\-]+)\(", line[end:])
    if not operation:
        return None
    opening = end + operation.end() - 1
    closing = _balanced(line, opening)
    inside = line[opening + 1 : closing - 1]
    operands = tuple(NAME.findall(inside))
    return Instruction(
        head[2], line[start:end], operation[1], operands, inside.strip(), line[closing:], head[1] is not None
    )


@functools.lru_cache(maxsize=1)  # a plan asks several questions about one text
def parse_module(text: str) -> Module:
    """Reads the text of `compiled.as_text()`. Raises HloError if it has no entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")) and line.endswith("{"):
            name = re.match(r"(ENTRY )?%?([\w.\-]+)", line)
            assert name is not None
            current = computations.setdefault(name[2], Computation(name[2], {}))
            entry = name[2] if name[1] else entry
        elif current is not None and line.startswith(" "):
            instruction = parse_instruction(line)
            if instruction:
                current.instructions[instruction.name] = instruction
    if not entry:
        raise HloError(f"HLO text without an ENTRY computation ({len(text)} characters); pass compiled.as_text().")
    return Module(computations, entry)


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int:
    """How often a while loop's body runs.

    From `known_trip_count` where the compiler wrote it, else from the counter: its start, its step in the body and
    the bound of the condition. Raises HloError for a loop that depends on data.
    """
    known = re.search(r'known_trip_count[\\"]*:\{[\\"]*n[\\"]*:[\\"]*(\d+)', loop.attributes)
    if known:
        return int(known[1])
    counter, bound, inclusive = _condition(module, loop)
    start = _constant(computation, _tuple_element(computation, loop.operands[0], counter))
    step = _step(module, loop, counter)
    if start is None or step is None or step <= 0:
        raise HloError(f"HLO text: the counter of loop {loop.name} ({loop.op_name}) has no constant start and step.")
    return max(0, -(-(bound - start + inclusive) // step))


def loop_trips(module: Module, loop: Instruction, known: dict[str, int], otherwise: int | None = None) -> int:
    """`trip_count` of a loop wherever it lies, looked up in `known` first.

    A loop that depends on data counts `otherwise` times; if that is None, it raises HloError.
    """
    if loop.name not in known:
        home = next(c for c in module.computations.values() if c.instructions.get(loop.name) is loop)
        try:
            known[loop.name] = trip_count(module, home, loop)
        except HloError:
            if otherwise is None:
                raise
            known[loop.name] = otherwise
    return known[loop.name]


def _condition(module: Module, loop: Instruction) -> tuple[int, int, int]:
    """(number of the counter in the loop's state, bound, 1 if the bound is included)."""
    condition = module.computations[loop.called("condition") or ""]
    root, operands = condition.root, condition.root.operands
    compare = root
    if root.opcode == "fusion":
        inner = module.computations[root.called("calls") or ""]
        compare = inner.root
        numbers = [inner.source(name).inside for name in compare.operands]
        operands = tuple(root.operands[int(n)] for n in numbers if n.isdigit())
    direction = re.search(r"direction=(LT|LE)", compare.attributes)
    if compare.opcode == "compare" and direction and len(operands) == 2:
        counter, bound = condition.source(operands[0]), _constant(condition, operands[1])
        index = re.search(r"index=(\d+)", counter.attributes)
        if counter.opcode == "get-tuple-element" and index and bound is not None:
            return int(index[1]), bound, int(direction[1] == "LE")
    raise HloError(f"HLO text: the condition of loop {loop.name} ({loop.op_name}) is not 'counter < constant'.")


def _step(module: Module, loop: Instruction, counter: int) -> int | None:
    body = module.computations[loop.called("body") or ""]
    added = body.source(_tuple_element(body, body.root.name, counter) or "")
    operands = added.operands
    if added.opcode == "fusion" and module.computations[added.called("calls") or ""].root.opcode != "add":
        return None
    if added.opcode not in ("add", "fusion"):
        return None
    constants = [c for c in (_constant(body, name) for name in operands) if c is not None]
    if not constants and added.opcode == "fusion":  # the step may lie inside the fusion
        inner = module.computations[added.called("calls") or ""]
        constants = [c for c in (_constant(inner, name) for name in inner.root.operands) if c is not None]
    return constants[0] if len(constants) == 1 else None


def _tuple_element(computation: Computation, name: str, index: int) -> str | None:
    made = computation.source(name)
    return made.operands[index] if made.opcode == "tuple" and index < len(made.operands) else None


def _constant(computation: Computation, name: str | None) -> int | None:
    if name is None or name not in computation.instructions:
        return None
    found = computation.source(name)
    return int(found.inside) if found.opcode == "constant" and re.fullmatch(r"-?\d+", found.inside) else None


def arguments_bytes(computation: Computation, instruction: Instruction) -> int:
    """Bytes of an instruction's operands."""
    return sum(shape_bytes(computation.instructions[name].shape) for name in instruction.operands)


def walk(
    module: Module, computation: str | None = None, loops: tuple[Instruction, ...] = (), fused: bool = False
) -> Iterator[tuple[Computation, Instruction, tuple[Instruction, ...], bool]]:
    """Every instruction that runs, with the loops around it, outermost first, and whether it is part of a fusion.

    Each branch of a conditional is walked; reducers are not.
    """
    here = module.computations[computation or module.entry]
    for instruction in here.instructions.values():
        yield here, instruction, loops, fused
        body, inner = instruction.called("body"), instruction.called("calls")
        if instruction.opcode == "while" and body:
            yield from walk(module, body, (*loops, instruction), fused)
        elif instruction.opcode in ("fusion", "call", "async-start") and (inner or instruction.called("to_apply")):
            called = inner or instruction.called("to_apply")
            yield from walk(module, called, loops, fused or instruction.opcode == "fusion")
        elif instruction.opcode == "conditional":
            branches = re.findall(
                r"(?:branch_computations=\{([^}]*)\}|_computation=(%[\w.\-]+))", instruction.attributes
            )
            for name in NAME.findall(" ".join(map(" ".join, branches))):
                yield from walk(module, name, loops, fused)
