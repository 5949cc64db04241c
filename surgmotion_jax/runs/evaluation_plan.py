"""The plan of an evaluation in words, as a person reads it, and as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from jax import Device

from surgmotion_jax.evaluate.config import EvaluateConfig
from surgmotion_jax.evaluate.plan import EvaluationPlan, Way, plan_evaluation
from surgmotion_jax.parallel.topology import Topology
from surgmotion_jax.runs.planning import Planned, gib, milliseconds, versions

NOTE = "In brackets: operations without a product take at most what their bytes take"


def run_evaluation_plan(config: EvaluateConfig, encoder: str, topology: Topology, devices: Sequence[Device]) -> Planned:
    """Makes the plan and prints it."""
    print(f"compiling for {topology.name}, which takes minutes", flush=True)
    found = plan_evaluation(config, encoder, topology, devices)
    for name, text in lines(found):
        print(f"{name:>14}  {text}")
    return Planned(found.fits, as_json(found))


def lines(plan: EvaluationPlan) -> Iterator[tuple[str, str]]:
    """The plan as (label, text), in the order to print."""
    topology, data = plan.topology, plan.config.data
    yield "topology", f"{topology.name}: {topology.chips} {topology.chip.name}, {topology.device_note}"
    windows = f"windows of {data.frames} x {data.size} x {data.size}, {plan.encoding.tokens} tokens"
    yield "evaluation", f"{data.benchmark}: {windows}, {plan.encoder}, {plan.config.probe.head} head"
    yield from _encoding_lines(plan)
    if plan.note:
        yield "heads", plan.note
    for way in plan.ways:
        yield from _way_lines(way, plan)
    if len(plan.ways) > 1:
        better, other = plan.ways
        if better.time and other.time:
            ratio, by = better.time.plain / other.time.plain, "the compiler's estimate"
            by += ", attention left out" if better.unknown_kernels else ""
        else:
            ratio, by = better.touched / other.touched, "the bytes that it touches, which is a ranking"
        yield "strategy", f"{better.name}, {ratio:.2f} of {other.name} by {by}; sweep.strategy=auto measures it"


def _encoding_lines(plan: EvaluationPlan) -> Iterator[tuple[str, str]]:
    found, topology = plan.encoding, plan.topology
    yield "encoder", f"{found.windows} windows a call; bfloat16, attention {found.attention}"
    beyond = found.peak - topology.usable_bytes
    excess = f": exceeds it by {gib(beyond)}; lower cache.batch" if beyond > 0 else ""
    yield "memory", f"{gib(found.peak)} of {gib(topology.usable_bytes)} a device{excess}"
    if found.time and found.seconds:
        mfu = found.time.mfu(topology.peak_flops)
        shares = f"{100 * mfu.plain:.1f} ({100 * mfu.corrected:.1f}) % MFU"
        yield "estimate", f"{milliseconds(found.seconds)} a window on {topology.chips} chips together, {shares}. {NOTE}"
        for dear in found.time.dearest[:3]:
            yield "dearest", f"{milliseconds(dear.time)}  {dear.count:g} x {dear.op_name[-80:]}  {dear.source}"
        yield from _unknown(found.time.unknown_kernels, plan)
    if found.kernels:
        yield "kernels", ", ".join(f"{count} {kind}" for kind, count in found.kernels.items()) + " a call"
    yield from _weights_lines(found.weights)


def _way_lines(way: Way, plan: EvaluationPlan) -> Iterator[tuple[str, str]]:
    found, config = way.plan, plan.config
    each = f"{found.together} at a time" if found.together > 1 else "one after the other"
    shared = f", {found.group} on each of {found.devices} devices" if found.placement == "heads" else ""
    shared += f", the rows shared out over {found.devices} devices" if found.placement == "rows" else ""
    attention = f", attention {plan.attention}" if plan.attention else ""
    rows = f"{config.sweep.batch} windows a step, {config.probe.dtype}"
    yield way.name, f"{found.heads} heads, {each}{shared}; {rows}{attention}"
    parts = (
        ("features", found.batch_bytes),
        ("parameters and moments", found.state_bytes),
        ("gradients and activations", found.working_bytes),
    )
    text = ", ".join(f"{name} {gib(size)}" for name, size in parts)
    yield "memory", f"{gib(found.total_bytes)} of {gib(found.budget)} a device: {text}"
    if way.time:
        yield "estimate", f"{milliseconds(way.time)} a step of all heads"
        yield from _unknown(way.unknown_kernels, plan)
    yield from _weights_lines(way.weights)


def _unknown(kernels: Sequence[str], plan: EvaluationPlan) -> Iterator[tuple[str, str]]:
    for name in kernels:
        yield "warning", f"kernel {name} has no known time on a {plan.topology.chip.name}: it is not in the estimate"


def _weights_lines(weights: Sequence[str]) -> Iterator[tuple[str, str]]:
    if weights:
        more = f", and {len(weights) - 1} more" if len(weights) > 1 else ""
        yield "warning", f"attention weights lie in memory: {weights[0]}{more}"


def as_json(plan: EvaluationPlan) -> dict[str, object]:
    """The plan as plain values, figures derived from it included."""
    seconds = plan.encoding.seconds
    content = dataclasses.asdict(plan)
    content["encoding"]["compiled"] = {**plan.encoding.compiled._asdict(), "text": ""}
    return {
        "versions": versions(),
        **content,
        "fits": plan.fits,
        "peak_bytes": plan.encoding.peak,
        "window": dataclasses.asdict(seconds) if seconds else None,
        "strategies": [way.name for way in plan.ways],
    }
