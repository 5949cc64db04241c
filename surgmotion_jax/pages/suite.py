"""The page of a benchmark suite: the step against its estimate, part by part, then attention, input and heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgmotion_jax.pages.evaluation import rows_table
from surgmotion_jax.pretrain.bench.timing import Quartiles
from surgmotion_jax.report.html import Section, page, sentence


@dataclass(frozen=True)
class Part:
    """A part of the step, in seconds of one device."""

    name: str
    measured: float
    estimated: float | None  # by the TPU compiler; None where it says nothing


@dataclass(frozen=True)
class Suite:
    """What was found. Nothing in it names a file or a machine."""

    device: str
    versions: Mapping[str, str]
    subject: str  # model, clip, batch and masks
    seconds: Quartiles  # of a step
    clips_per_s: float
    mfu: float | None
    estimate: float | None  # seconds of a step
    parts: tuple[Part, ...]
    attention: Mapping[str, Quartiles]  # seconds of one block, forward and backward
    no_attention: Mapping[str, str]  # and why others were not timed
    block: str  # its shape
    input_clips_per_s: float | None  # decoding alone; None without data
    sweep: Mapping[str, Quartiles]  # seconds of a step of all heads
    heads: str  # their shape

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def as_html(found: Suite) -> str:
    """One self-contained page."""
    sections = [
        Section("The step", rows_table(*step_table(found)) + sentence(found.subject)),
        Section("Its parts", rows_table(*parts_table(found)) + sentence(PARTS_NOTE)),
        Section("Attention", rows_table(*times_table(found.attention, found.no_attention)) + sentence(found.block)),
        Section("Input", sentence(input_text(found))),
        Section("Heads", rows_table(*times_table(found.sweep, {})) + sentence(found.heads)),
        Section("Versions", sentence(", ".join(f"{name} {version}" for name, version in found.versions.items()))),
    ]
    return page("Benchmark", found.device, sections, "benchmark suite")


PARTS_NOTE = (
    "Measured: the operations of a profile, each without those inside it; on CPUs those of all threads together. "
    "Estimated: the TPU compiler's own cycles; other compilers give none."
)

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


def step_table(found: Suite) -> Table:
    """The whole step, measured and estimated."""
    rows = [("measured", _ms(found.seconds)), ("clips a second", f"{found.clips_per_s:.1f}")]
    rows.append(("MFU", "the peak is not known" if found.mfu is None else f"{100 * found.mfu:.1f} %"))
    told = "the compiler gives none" if found.estimate is None else f"{1e3 * found.estimate:.2f} ms"
    return ("", "a step"), [*rows, ("estimate of the compiler", told)]


def parts_table(found: Suite) -> Table:
    """A row a part, and its share of what was measured."""
    whole = sum(part.measured for part in found.parts) or 1.0
    rows = [
        (
            part.name,
            f"{1e3 * part.measured:.2f}",
            f"{100 * part.measured / whole:.1f} %",
            "-" if part.estimated is None else f"{1e3 * part.estimated:.2f}",
        )
        for part in found.parts
    ]
    return ("part", "measured, ms", "share", "estimated, ms"), rows


def times_table(times: Mapping[str, Quartiles], missing: Mapping[str, str]) -> Table:
    """A row a way; those that were not timed have the reason."""
    return ("", "median (quartiles)"), [*((name, _ms(one)) for name, one in times.items()), *missing.items()]


def input_text(found: Suite) -> str:
    """What decoding alone gives."""
    if found.input_clips_per_s is None:
        return "Not measured: --data=PATH names no videos."
    return f"{found.input_clips_per_s:.1f} clips a second, decoded with nothing beside it."


def lines(found: Suite) -> list[str]:
    """The same as text."""
    told = [f"{found.device}; {found.subject}"]
    for name, table in {
        "step": step_table(found),
        "parts": parts_table(found),
        f"attention, {found.block}": times_table(found.attention, found.no_attention),
        f"heads, {found.heads}": times_table(found.sweep, {}),
    }.items():
        told += ["", name, *("  " + "  ".join(row) for row in table[1])]
    return [*told, "", f"input: {input_text(found)}"]


def _ms(one: Quartiles) -> str:
    return f"{1e3 * one.median:.2f} ms ({1e3 * one.lower:.2f} to {1e3 * one.upper:.2f})"
