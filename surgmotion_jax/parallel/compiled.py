"""What is read off a compiled program: its memory on one device, and its text; or why there is none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

import jax

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Compiled(NamedTuple):
    """What is read off a compiled program. `needed` is set, and the text empty, where it does not fit."""

    arguments: int
    outputs: int  # not sharing the arguments' memory
    temporaries: int
    code: int
    text: str
    seconds: float
    needed: float = 0.0


def compile_program(compile: Callable[[], jax.stages.Compiled]) -> Compiled:
    """Compiles. A program that is too large for the device's memory is a result, not an error."""
    started = time.monotonic()
    try:
        compiled = compile()
    except jax.errors.JaxRuntimeError as error:
        needed = memory_needed(str(error))
        if needed is None:
            raise
        return Compiled(0, 0, 0, 0, "", time.monotonic() - started, needed)
    return read_compiled(compiled, time.monotonic() - started)


def read_compiled(compiled: jax.stages.Compiled, seconds: float = 0.0) -> Compiled:
    """What a plan needs of a compiled program."""
    found, text = compiled.memory_analysis(), compiled.as_text()
    assert found is not None, "the compilers that plans are made with tell the memory"
    return Compiled(
        found.argument_size_in_bytes,
        found.output_size_in_bytes - found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        text or "",
        seconds,
    )


def memory_needed(message: str) -> float | None:
    """Bytes that a program would take, from the compiler's refusal; None if it is about something else."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message) or re.search(
        r"\(([\d.]+)([KMGT]?)\) exceeds available HBM", message
    )
    return float(found[1]) * UNITS[found[2]] if found else None
